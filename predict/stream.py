"""Predictions of faces while a video is filmed: rows come a fixed number of frames after their frame.

    stream = FaceStream(None, "rtsp://camera/1")      or a file, or (time_s, image) of each frame
    stream.delay                                      frames
    for row in stream: ...

The rows are those of `abaw.predict.videos.predict_video` but for what is known only at the end of a video; see
`FaceStream`.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from math import ceil, inf
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import AbawError, UsageError
from abaw.extract.faces.alignment import align
from abaw.extract.faces.boxes import match
from abaw.extract.faces.detections import Detections, RefiningDetector
from abaw.extract.faces.detector import DEFAULT_DETECTOR, create_detector
from abaw.extract.faces.keyframes import DEFAULT_EVERY, detect_pictures
from abaw.extract.faces.layout import as_jpeg
from abaw.extract.faces.quality import crop_quality
from abaw.extract.faces.tracking import JOIN_DISTANCE, SHORTEST_TRACK_S, Track, Tracker
from abaw.media.images import read_image
from abaw.media.live import LiveVideo, is_live
from abaw.media.pictures import Picture, read_pictures
from abaw.media.probe import probe_timing
from abaw.predict.input_files import PredictOptions, is_image, list_inputs
from abaw.predict.output_rows import OutputRow, output_values, row_cells, row_columns
from abaw.predict.person_stream import PersonStream
from abaw.predict.stream_networks import open_stream_network
from abaw.train.runs import Run

Frames = Iterable[tuple[float, NDArray[np.uint8]]]  # when each is shown, in seconds, and (height, width, 3) RGB
MOST_GONE = 64  # people who left, and are recognised by their place


class FaceStream:
    """Rows of a video as its frames come; iterate it once.

    Differences from `predict_video`: people are `1`, `2` and so on in the order of appearance; the first rows of a track
    that is shorter than 0.3 s within the delay are missing; of a causal head, rows within the last window of a video have
    no part of the window that ends with it; a person who left before the end has other values in the last window; one who
    was away for longer than a window begins again; `lstm` answers for crops below `min_quality` at the beginning of a window
    without those after them. Of cameras and frames, pictures below a megapixel are detected in
    smaller batches than those of files, whose rounding moves single pixels of crops by a grey level.
    Memory does not grow with the length of the video.

    Args:
        run: None takes `fer`, which comes with the package.
        source: a video file, the URL of a camera or stream, a device such as /dev/video0, - for standard input, or the frames.
        fps: of the frames; by default that of the file or camera.
        options: of these, `backbones`, `raw`, `untrained` and `device` are used here.

    Attributes:
        task: what the outputs are.
        fps: frames per second.
        delay: frames that must follow a frame before its rows come; a file is read further ahead, by 25 MB of pictures.
        note: a sentence on what to know about the predictions; empty if there is nothing.
        columns: of the table that `cells` gives rows of.

    Raises:
        AbawError: the run cannot predict faces, the source cannot be read, or `fps` is missing.
    """

    def __init__(
        self, run: Run | None, source: "str | Path | Frames", fps: float = 0.0, options: PredictOptions | None = None
    ) -> None:
        options = options or PredictOptions()
        self._pictures, known_fps = _open(source)
        self._is_live = not isinstance(source, str | Path) or is_live(source)
        self.fps = fps or known_fps
        if not self.fps > 0:
            raise UsageError("The frames have no rate. Give it as fps, in frames per second.")
        self._detector = create_detector(DEFAULT_DETECTOR, options.device)
        self._network = open_stream_network(run, options, self.fps)
        self.task, self.note = self._network.task, self._network.note
        self.columns = row_columns(self.task)
        every = DEFAULT_EVERY if isinstance(self._detector, RefiningDetector) else 0
        self._wait = max(ceil(SHORTEST_TRACK_S * self.fps), PersonStream.wait(self._network))
        self.delay = self._wait + every

    def __iter__(self) -> Iterator[OutputRow]:
        """Yield the rows in temporal order; an error comes after the rows of all frames before it.

        Raises:
            DataError: the source cannot be read.
            UsageError: a frame is no RGB image, or is shown before the one before it.
        """
        tracker, people = Tracker(forgets=True), _People()
        waiting: deque[_Frame] = deque()
        errors: list[AbawError] = []
        first_s: float | None = None
        time_s = 0.0
        pictures = _until_error(self._pictures, errors)
        for picture, detections in detect_pictures(pictures, self._detector, live=self._is_live):
            first_s, time_s = (picture.time_s if first_s is None else first_s), picture.time_s
            waiting.append(self._followed(picture, detections, tracker, people))
            while waiting[0].number + self._wait <= picture.number:
                yield from self._rows(waiting.popleft(), people)
            people.forget(waiting[0].number - self._wait if waiting else picture.number)
        duration_s = time_s - (first_s or 0.0)
        for frame in waiting:
            yield from self._rows(frame, people, duration_s)
        if errors:
            raise errors[0]

    def cells(self, row: OutputRow) -> list[str]:
        """A row of a table as `abaw predict` writes it."""
        return row_cells(self.task, row)

    def _followed(self, picture: Picture, detections: Detections, tracker: Tracker, people: "_People") -> "_Frame":
        """The people in a picture, whose features are added to theirs."""
        numbers = tracker.add(picture.time_s, detections.boxes)
        tracks, frame = tracker.alive(), _Frame(picture.number, picture.time_s, [])
        owners = [people.owner(tracks[number], set(numbers)) for number in numbers]
        if owners:
            crops = [align(picture.image, landmarks) for landmarks in detections.landmarks]
            # with the losses of the files that `abaw prepare` makes
            stored = np.stack([read_image("a crop", as_jpeg(crop)) for crop in crops])
            features = self._network.embed(stored)
        for i, (person, number) in enumerate(zip(owners, numbers, strict=True)):
            person.series = person.series or PersonStream(self._network)
            quality = 1.0
            if self._network.min_quality:
                face = (detections.boxes[i], float(detections.scores[i]), detections.landmarks[i], crops[i])
                quality = crop_quality(*face)
            person.series.add(picture.number, {name: values[i] for name, values in features.items()}, quality)
            frame.faces.append((person, tracks[number], detections.boxes[i]))
        return frame

    def _rows(self, frame: "_Frame", people: "_People", duration_s: float | None = None) -> Iterator[OutputRow]:
        """The rows of a frame; the duration of the video is known at its end."""
        shortest_s = SHORTEST_TRACK_S if duration_s is None else min(SHORTEST_TRACK_S, duration_s / 2)
        for person, track, box in frame.faces:
            if track.seen_s < shortest_s:
                continue
            assert person.series is not None, "added with the face"
            values = output_values(self.task, person.series.output(frame.number, duration_s is not None))
            left, top, right, bottom = (float(side) for side in box)
            yield OutputRow(frame.number + 1, frame.time_s, people.name(person), values, (left, top, right, bottom))


@dataclass(eq=False)
class _Person:
    """Somebody in a stream: the last track, features while they are needed, and a name once there is a row."""

    track: Track
    series: PersonStream | None = None
    name: str = ""


@dataclass
class _Frame:
    """A frame whose rows have not come yet: the person, track and box of each face."""

    number: int
    time_s: float
    faces: list[tuple[_Person, Track, NDArray[np.float32]]]


class _People:
    """Who owns which track: a track continues somebody who left near its first place, as in `join_tracks`."""

    def __init__(self) -> None:
        self.known: dict[int, _Person] = {}  # by the number of their last track
        self._n_names = 0

    def owner(self, track: Track, shown: set[int]) -> _Person:
        """The person of a track.

        Args:
            shown: numbers of the tracks in this frame.
        """
        if track.number in self.known:
            return self.known[track.number]
        gone = [
            person
            for number, person in self.known.items()
            if number not in shown and person.track.seen_s >= SHORTEST_TRACK_S and person.track.last_s < track.first_s
        ]
        lasts = np.array([person.track.last_box for person in gone]).reshape(-1, 4)
        pairs = match(lasts, track.first_box[None], JOIN_DISTANCE)
        person = gone[pairs[0][0]] if pairs else _Person(track)
        self.known.pop(person.track.number, None)
        person.track = track
        self.known[track.number] = person
        return person

    def name(self, person: _Person) -> str:
        """`1`, `2` and so on in the order in which people get their first rows."""
        if not person.name:
            self._n_names += 1
            person.name = str(self._n_names)
        return person.name

    def forget(self, oldest: int) -> None:
        """Drop the features of people who were not seen since a frame, and all about those who left long ago."""
        for person in self.known.values():
            if person.series is not None and person.series.last_seen < oldest:
                person.series = None
        gone = [number for number, person in self.known.items() if person.series is None]
        for number in islice(gone, max(0, len(gone) - MOST_GONE)):
            del self.known[number]


def _open(source: "str | Path | Frames") -> tuple[Iterable[Picture], float]:
    """The pictures of a source, and their rate if it is known, else 0."""
    if not isinstance(source, str | Path):
        return _numbered(source), 0.0
    if is_live(source):
        video = LiveVideo(str(source))
        return video, video.fps
    if Path(source).is_dir():
        raise UsageError(f"{source} is a folder, and a stream is of one video. Name a file in it.")
    list_inputs((Path(source),))  # its error says what a file can be
    if is_image(Path(source)):
        raise UsageError(f"{source} is an image, and a stream is of a video. Leave out --stream.")
    return read_pictures(Path(source)), probe_timing(Path(source)).fps


def _until_error(pictures: Iterable[Picture], errors: list[AbawError]) -> Iterator[Picture]:
    """The pictures before the first error, which is noted: rows of theirs may still be waiting."""
    try:
        yield from pictures
    except AbawError as error:
        errors.append(error)


def _numbered(frames: Frames) -> Iterator[Picture]:
    last_s = -inf
    for number, (time_s, image) in enumerate(frames):
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise UsageError(f"Frame {number} must be (height, width, 3) uint8 RGB, found {kind}. Convert it.")
        if not last_s <= time_s < inf:
            raise UsageError(
                f"Frame {number} is shown at {time_s:g} s, and the one before it at {last_s:g} s. Give times in seconds that "
                "ascend."
            )
        last_s = float(time_s)
        yield Picture(number, last_s, image)
