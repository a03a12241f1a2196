"""Following faces through a video file: detection, tracking and alignment, frame by frame."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from abaw.extract.faces.alignment import align
from abaw.extract.faces.detections import FaceDetector
from abaw.extract.faces.face_identity import FaceIdentity
from abaw.extract.faces.keyframes import detect_pictures
from abaw.extract.faces.quality import crop_quality
from abaw.extract.faces.tracking import Tracker, name_people
from abaw.extract.waits import DECODE, Waits
from abaw.media.cuts import note_cuts
from abaw.media.decoders import PROCESSOR, Decoder
from abaw.media.pictures import Picture


class FollowedFace(NamedTuple):
    """A face in a frame.

    Attributes:
        box: (4,) float32 left, top, right and bottom in pixels of the frame.
        score: in [0, 1].
        landmarks: (5, 2) float32 x and y, see `Detections`.
        crop: (112, 112, 3) uint8 RGB, aligned.
    """

    box: NDArray[np.float32]
    score: float
    landmarks: NDArray[np.float32]
    crop: NDArray[np.uint8]

    def quality(self) -> float:
        """See `abaw.extract.faces.quality`; NaN for a whole picture."""
        return crop_quality(*self)


class FacesOfFrame(NamedTuple):
    """A frame: its number in the file from 0, when it is shown, (height, width, 3) RGB, its faces by track, and its shot.

    Shots are numbered from 1; a cut begins the next one, see `abaw.media.cuts`.
    """

    number: int
    time_s: float
    image: NDArray[np.uint8]
    faces: dict[int, FollowedFace]
    shot: int = 1


class FaceFollower:
    """Goes through a video file once.

        follower = FaceFollower(file, create_detector())
        for frame in follower:
            ...  # frame.faces: {track: FollowedFace}
        names = follower.names("video")  # {track: "video_left"}

    Track numbers are known at once. Who is left and right, which tracks are one person, and which ones are too short to
    be a face is known only at the end. About 25 MB of pictures are in memory, or `every` pictures where they are larger.

    Args:
        every: full detection in every n-th frame, see `detect_pictures`.
        image: (height, width, 3) uint8 RGB, of an image file: it is followed as a video of one frame.
        waits: counts the time that decoding takes.
        ahead: see `detect_pictures`; then `waits` is of no use.
        identity: tells people apart by their faces; None by their position.
        decoder: of the pictures.

    Attributes:
        notes: sentences about faults of the file.
        n_frames: frames yielded so far.
        cuts: numbers of the first frames after cuts, from 0; some may be ahead of the frames yielded.
        n_by_processor: of them, those that the processor decoded although another decoder was asked for.
    """

    def __init__(
        self,
        file: Path,
        detector: FaceDetector,
        every: int = 0,
        image: NDArray[np.uint8] | None = None,
        waits: Waits | None = None,
        ahead: bool = False,
        identity: FaceIdentity | None = None,
        decoder: Decoder = PROCESSOR,
    ) -> None:
        self._file, self._detector, self._every = file, detector, every
        self._image, self._waits, self._ahead, self._identity = image, waits or Waits(), ahead, identity
        self._tracker, self._decoder = Tracker(), decoder
        self.notes: list[str] = []
        self.cuts: list[int] = []
        self.n_frames = self.n_by_processor = 0

    def __iter__(self) -> Iterator[FacesOfFrame]:
        """Yield the frames in order.

        Raises:
            DataError: no frame can be decoded.
        """
        self._tracker, self.notes, self.cuts, self.n_frames, self.n_by_processor = Tracker(), [], [], 0, 0
        shot = 1
        pictures = note_cuts(self._pictures(), self.cuts)
        for picture, detections in detect_pictures(pictures, self._detector, self._every, self._ahead):
            is_cut = shot <= len(self.cuts) and picture.number >= self.cuts[shot - 1]
            shot += is_cut
            ends_tracks = is_cut and self._identity is not None
            tracks = self._tracker.add(picture.time_s, detections.boxes, ends_tracks)
            faces = {
                track: FollowedFace(box, float(score), landmarks, align(picture.image, landmarks))
                for track, box, score, landmarks in zip(
                    tracks, detections.boxes, detections.scores, detections.landmarks, strict=True
                )
            }
            if self._identity is not None:
                self._embed(self._identity, picture.time_s, faces)
            self.n_frames += 1
            yield FacesOfFrame(picture.number, picture.time_s, picture.image, faces, shot)

    def _embed(self, identity: FaceIdentity, time_s: float, faces: dict[int, FollowedFace]) -> None:
        due = self._tracker.due(list(faces), time_s)
        if due:
            for track, embedding in zip(due, identity.embed([faces[track].crop for track in due]), strict=True):
                self._tracker.embed(track, time_s, embedding, faces[track].quality())

    def _pictures(self) -> Iterable[Picture]:
        if self._image is not None:
            return [Picture(0, 0.0, self._image)]
        return self._waits.each(DECODE, self._decoded())

    def _decoded(self) -> Iterator[Picture]:
        for picture, by_processor in self._decoder.pictures(self._file, 0, self.notes):
            self.n_by_processor += by_processor
            yield picture

    def names(self, video: str, most: int = 0) -> dict[int, str]:
        """The name of the person for each track that was long enough, given the frames so far; see `name_people`.

        Args:
            video: name of the video.
            most: number of people to keep, the largest and longest seen; 0 keeps all.
        """
        people = name_people(self._tracker.people(), video, most)
        return {track.number: name for name, person in people.items() for track in person.tracks}
