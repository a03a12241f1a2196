"""The files that `abaw prepare` writes for one video: all of them or none.

cropped_aligned/<person>/00001.jpg   numbered by frame from 1
audio/<video>.wav                    16 kHz mono, 16 bits, from the first picture on
videos/<video>.<suffix>              the video: a hard link, or a copy where links are impossible
faces/<video>.csv                    where the faces are, see `COLUMNS`
faces/<video>.json                   the record of their making; written last
faces/<video>.partial/               all of them while they are incomplete
"""

import csv
import os
import shutil
import wave
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from abaw.core.claim_files import check_claims, claimed, drop_dead_claim
from abaw.core.csv_cells import as_cell
from abaw.core.errors import DataError
from abaw.core.files import clear, partial_name, save_json
from abaw.core.json_files import read_json
from abaw.core.names import MAX_NAME_BYTES, SIDES, check_name, composed
from abaw.datasets.crop_quality import QUALITY
from abaw.datasets.folders import CROPS, VIDEOS, find_crop_folders, find_folders, find_video_files
from abaw.datasets.sound_files import FOLDER as AUDIO
from abaw.datasets.sound_files import find_sound_files
from abaw.datasets.video_files import FACES
from abaw.extract.faces.following import FacesOfFrame, FollowedFace
from abaw.media.file_content import content_of, has_content, is_same_content
from abaw.media.sound import Sound
from abaw.media.waveform import RATE_HZ

JPEG_QUALITY = 95
LONGEST_ENDING = max(len(ending) for ending in (*SIDES, ".json", ".m2ts"))  # appended to the name of a video
WAV_SAMPLES = 60 * RATE_HZ  # written at once
POINTS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
LANDMARKS = tuple(f"{point}_{axis}" for point in POINTS for axis in "xy")
COLUMNS = ("frame", "time_s", "person", "score", "left", "top", "right", "bottom", *LANDMARKS, "shot", QUALITY)


@dataclass(frozen=True)
class Record:
    """Sources, options and results of a video: `faces/<video>.json`.

    Attributes:
        source, size_bytes: name and size of the video file.
        faces, detector, every: the options.
        people: names, from left to right.
        n_frames, n_crops: frames of the video, crops of all people.
        notes: sentences about faults of the file.
        content: `content_of` the video file; empty in records of older versions.
        identity: `identity_key` of what people were told apart by; empty for their position.
        cuts: numbers of the first frames after cuts, from 1.
    """

    source: str
    size_bytes: int
    faces: int
    detector: str
    every: int
    people: tuple[str, ...] = ()
    n_frames: int = 0
    n_crops: int = 0
    notes: tuple[str, ...] = ()
    content: str = ""
    identity: str = ""
    cuts: tuple[int, ...] = ()

    def inputs(self) -> tuple[object, ...]:
        """Source and options; if they change, the video must be prepared again."""
        return self.source, self.size_bytes, self.faces, self.detector, self.every, self.identity

    @classmethod
    def read(cls, file: Path) -> "Record | None":
        """The record in a file; None if the file is missing or invalid."""
        try:
            content: dict[str, Any] = read_json(file)
            lists = {key: tuple(content.get(key, ())) for key in ("people", "notes", "cuts")}
            record = cls(**{**content, **lists})
        except (OSError, ValueError, TypeError, KeyError):
            return None
        # names become folders that are replaced: they must not point elsewhere
        return record if all(isinstance(name, str) and is_plain(name) for name in record.people) else None


def is_plain(name: str) -> bool:
    """True if a name is a single path component."""
    return name not in ("", ".", "..") and not set(name) & {"/", "\\", "\0"}


class Files:
    """The files of one video under a data folder.

    Args:
        data: root of the dataset.
        source: the video file, or an image.
        name: of the video; by default that of the file without its suffix.
    """

    def __init__(self, data: Path, source: Path, name: str = "") -> None:
        self.source, self.video = source, name or composed(source.stem)
        self._data = data
        self._partial = data / FACES / partial_name(self.video)
        self._record = data / FACES / f"{self.video}.json"
        self._content = ""

    def check_name(self) -> None:
        """Raise an AbawError if the name of the video is invalid in a dataset or in a store."""
        check_name(self.video, "video")
        longest = MAX_NAME_BYTES - LONGEST_ENDING
        if len(self.video.encode()) > longest:
            raise DataError(
                f"{self.source.name[:60]!r}... has a name of {len(self.video.encode())} bytes, and at most {longest} are possible: the "
                "names of people and tables are longer. Rename it."
            )

    def claimed(self) -> AbstractContextManager[None]:
        """Claims the video for as long as the block runs; raises a BusyError if another process prepares it."""
        return claimed(self._record)

    def drop_dead_claim(self) -> None:
        """Delete the claim of a process that was killed once the video was done."""
        drop_dead_claim(self._record)

    def complete_move(self) -> None:
        """Complete a move into place that was interrupted, and delete incomplete files; only with a claim."""
        waiting = None if self._partial.is_symlink() else Record.read(self._partial / "record.json")
        if waiting is not None:
            self._move(waiting)
        else:
            self.discard()

    def is_done(self, request: Record) -> bool:
        """True if all files exist, made from the same file with the same options, and nothing else is left."""
        if self._partial.exists():  # some files may be of this one, others of an earlier call
            return False
        record = Record.read(self._record)
        return record is not None and record.inputs() == request.inputs() and has_content(self.source, record.content)

    def people(self) -> tuple[str, ...]:
        """Names of the people in a video that is done, from left to right."""
        record = Record.read(self._record)
        return record.people if record is not None else ()

    def begin(self) -> None:
        """Create an empty folder for incomplete files.

        Raises:
            DataError: something that `abaw prepare` did not write is in the way.
        """
        self._check_no_links()
        self._check_free((self.video,))
        clear(self._partial)
        self._content = content_of(self.source)
        (self._partial / "tracks").mkdir(parents=True)

    def discard(self) -> None:
        """Delete the incomplete files, unless some have been moved into place: then the next call moves the others."""
        if not (self._partial / "record.json").exists():
            shutil.rmtree(self._partial, ignore_errors=True)

    def write_faces(self, frames: Iterator[FacesOfFrame]) -> Iterator[FacesOfFrame]:
        """Write crops and a table by track, and yield the frames again."""
        with (self._partial / "tracks.csv").open("w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            for frame in frames:
                check_claims()
                for track, face in frame.faces.items():
                    folder = self._partial / "tracks" / str(track)
                    folder.mkdir(exist_ok=True)
                    (folder / f"{frame.number + 1:05}.jpg").write_bytes(as_jpeg(face.crop))
                    table.writerow(_row(frame, track, face))
                yield frame

    def write_sound(self, sound: Sound, first_picture_s: float) -> None:
        """Write the sound from the first picture on; silence if it starts later."""
        start = round((first_picture_s - sound.start_s) * RATE_HZ)
        stop = max(len(sound.waveform), start)
        # given a name, a file that cannot be opened would leave an object behind whose end fails
        with (self._partial / "sound.wav").open("wb") as file, wave.open(file, "wb") as stream:
            stream.setnchannels(1)
            stream.setsampwidth(2)
            stream.setframerate(RATE_HZ)
            for position in range(start, stop, WAV_SAMPLES):
                samples = sound.waveform.read(position, min(position + WAV_SAMPLES, stop))
                stream.writeframes(np.rint(samples * 32767).clip(-32768, 32767).astype("<i2").tobytes())

    def finish(self, names: Mapping[int, str], record: Record) -> Record:
        """Rename tracks to people, and move all files into place.

        Args:
            names: the person of each track to keep, see `FaceFollower.names`.
            record: without people and number of crops.

        Raises:
            DataError: something that `abaw prepare` did not write is in the way.
        """
        self._name_crops(names)
        n_crops = self._name_table(names)
        people = tuple(dict.fromkeys(names.values()))
        record = Record(**{**asdict(record), "people": people, "n_crops": n_crops, "content": self._content})
        self._check_free(people)
        save_json(self._partial / "record.json", asdict(record))
        self._move(record)
        return record

    def _name_crops(self, names: Mapping[int, str]) -> None:
        for track in sorted((self._partial / "tracks").iterdir()):
            name = names.get(int(track.name))
            if name is None:
                shutil.rmtree(track)
                continue
            folder = self._partial / "crops" / name
            folder.mkdir(parents=True, exist_ok=True)
            for crop in track.iterdir():
                crop.replace(folder / crop.name)

    def _name_table(self, names: Mapping[int, str]) -> int:
        n_faces = 0
        with (
            (self._partial / "tracks.csv").open(newline="", encoding="utf-8") as tracks,
            (self._partial / "faces.csv").open("w", newline="", encoding="utf-8") as faces,
        ):
            table = csv.writer(faces)
            table.writerow(COLUMNS)
            for row in csv.reader(tracks):
                name = names.get(int(row[2]))
                if name is not None:
                    table.writerow([*row[:2], as_cell(name), *row[3:]])
                    n_faces += 1
        return n_faces

    def _check_no_links(self) -> None:
        """Raise a DataError if one of the folders is a link, so that nothing is written elsewhere."""
        written = [CROPS, AUDIO, FACES, *([] if self.video in find_video_files(self._data) else [VIDEOS])]
        for folder in (self._data / name for name in written):
            if folder.is_symlink():
                raise DataError(
                    f"{folder} is a link, and nothing is written through one. Put a folder in its place (with links in it, if "
                    "need be), or name another data folder with --data."
                )

    def _check_free(self, people: tuple[str, ...]) -> None:
        """Raise a DataError if a file would be replaced that `abaw prepare` did not write."""
        before = Record.read(self._record)
        replaced = before.people if before is not None else ()
        folders = find_folders(self._data)
        crops = find_crop_folders(folders)
        taken = [crops[name] for name in people if name not in replaced and name in crops]
        sound = find_sound_files(self._data).get(self.video)
        if before is None and sound is not None:
            taken.append(sound)
        video = find_video_files(self._data, folders).get(self.video)
        if video is not None and not self._is_source(video) and not self._is_replaced(video, before):
            taken.append(video)
        if taken:
            raise DataError(f"{taken[0]} already exists, and not from `abaw prepare` of {self.source}. Move it away.")

    def _is_source(self, video: Path) -> bool:
        """True for the video itself, a link to it, or a copy."""
        return is_same_content(video, self.source)

    def _is_replaced(self, video: Path, before: Record | None) -> bool:
        """True for the video that `abaw prepare` put here, from a file that was replaced since."""
        is_known = before is not None and before.content != "" and has_content(video, before.content)
        return is_known and video.parent == self._data / VIDEOS

    def _move(self, record: Record) -> None:
        """Move all files into place; completes an earlier call that was interrupted."""
        check_claims()
        before = Record.read(self._record)
        for name in before.people if before is not None else ():
            if name not in record.people:
                clear(self._data / CROPS / name)
        for name in record.people:
            crops = self._partial / "crops" / name
            if crops.exists():
                clear(self._data / CROPS / name)
                (self._data / CROPS).mkdir(exist_ok=True)
                crops.replace(self._data / CROPS / name)
        self._move_file("sound.wav", self._data / AUDIO / f"{self.video}.wav")
        self._place_video()
        self._move_file("faces.csv", self._data / FACES / f"{self.video}.csv")
        self._move_file("record.json", self._record)
        shutil.rmtree(self._partial, ignore_errors=True)

    def _move_file(self, name: str, target: Path) -> None:
        if (self._partial / name).exists():
            target.parent.mkdir(exist_ok=True)
            (self._partial / name).replace(target)

    def _place_video(self) -> None:
        video = find_video_files(self._data).get(self.video)
        if video is not None and (self._is_source(video) or not self._is_replaced(video, Record.read(self._record))):
            return
        target = self._data / VIDEOS / f"{self.video}{self.source.suffix}"
        target.parent.mkdir(exist_ok=True)
        partial = self._partial / f"video{self.source.suffix}"
        partial.unlink(missing_ok=True)
        with suppress(OSError):  # another file system, or one without hard links
            os.link(self.source.resolve(), partial)
        if not partial.exists():
            shutil.copyfile(self.source, partial)
        partial.replace(target)
        if video is not None and video != target:
            video.unlink()


def as_jpeg(crop: NDArray[np.uint8]) -> bytes:
    """A crop as it is stored."""
    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(crop), quality=JPEG_QUALITY)
    return jpeg


def _row(frame: FacesOfFrame, track: int, face: FollowedFace) -> list[object]:
    coordinates = [f"{value:.2f}" for value in (*face.box.tolist(), *face.landmarks.ravel().tolist())]
    begin = [frame.number + 1, f"{frame.time_s:.6f}", track, f"{face.score:.4f}"]
    return [*begin, *coordinates, frame.shot, f"{face.quality():.4f}"]
