"""Video files beside the crops: where they are, their frame rate and number of frames."""

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from abaw.errors import DataError

FOLDERS = ("videos", "batch1", "batch2")
SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm")
SIDES = ("_left", "_right")  # of two people in one video; the video file has the base name; more people have numbers
DEFAULT_FPS = 30.0
# A playlist is not among them: it names other files, which FFmpeg would open, whatever its own name ends in.
CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpeg,mpegts,asf,flv,wav,flac,mp3,ogg,aac,"
    "h264,hevc,m4v,mpegvideo,mjpeg,dv,mxf,w64,aiff,caf"
)


@dataclass(frozen=True)
class Timing:
    """Frame rate (frames a second, mean over the file) and number of frames of a video file."""

    fps: float
    n_frames: int


@dataclass(frozen=True)
class Stamps:
    """When the pictures of a video file are shown, on the clock of the file.

    Attributes:
        shown: (pictures,) int64 ascending, in units of `base`.
        step: how long the last picture is shown: the mean time of the others, in units of `base`.
        base: seconds of a unit.
        stated: duration that the file states, in units of `base`; 0 where it states none.
    """

    shown: NDArray[np.int64]
    step: float
    base: Fraction
    stated: int


def open_media(file: Path) -> InputContainer:
    """Open a file of pictures or sound for reading.

    Raises:
        av.FFmpegError, OSError: it cannot be read, or is of none of `CONTAINERS`.
    """
    return av.open(str(file), options={"format_whitelist": CONTAINERS})


def find_video_files(root: Path) -> dict[str, Path]:
    """Video files of a dataset by base name."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        if (root / folder).is_dir():
            for file in sorted((root / folder).iterdir()):
                if file.suffix.lower() in SUFFIXES:
                    found.setdefault(file.stem, file)
    return found


def video_file_of(name: str, files: dict[str, Path]) -> Path | None:
    """The file of a video name: its own, or that of its base name without `_left`, `_right` or a number as `_3`."""
    if name in files:
        return files[name]
    for side in SIDES:
        if name.endswith(side):
            return files.get(name.removesuffix(side))
    base, _, number = name.rpartition("_")
    return files.get(base) if number.isascii() and number.isdigit() else None


def probe_timing(file: Path) -> Timing:
    """Read frame rate and number of frames from a video file.

    Raises:
        DataError: the file cannot be read or has no pictures.
    """
    try:
        with open_media(file) as container:
            if not container.streams.video:
                raise DataError(f"{file} has no pictures, only sound. Replace it, or give the frame rate with --fps.")
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate
            # some containers do not say how many frames they have: then their packets are counted
            n_frames = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
    except (av.FFmpegError, OSError) as error:
        raise DataError(
            f"{file} cannot be read as a video ({error}). Replace it, or delete it and use --fps."
        ) from error
    if not rate or not n_frames:
        raise DataError(
            f"{file} does not tell its frame rate or has no frames. Replace it, or delete it and use --fps."
        )
    return Timing(float(rate), int(n_frames))


def read_stamps(file: Path) -> Stamps:
    """Read when the pictures of a video file are shown; its packets are read, no picture is decoded.

    Raises:
        DataError: the file cannot be read, has no pictures, or no timestamps.
    """
    try:
        with open_media(file) as container:
            if not container.streams.video:
                raise DataError(f"{file} has no pictures. Replace it, or delete it.")
            stream = container.streams.video[0]
            # a container like AVI has no presentation times, but shows its frames in decoding order
            stamped = [
                (packet.pts if packet.pts is not None else packet.dts, packet.duration or 0)
                for packet in container.demux(stream)
                if packet.size and not packet.is_discard
            ]
            base, stated = stream.time_base, stream.duration
    except (av.FFmpegError, OSError) as error:
        raise DataError(f"{file} cannot be read as a video ({error}). Replace it, or delete it.") from error
    pictures = sorted((stamp, duration) for stamp, duration in stamped if stamp is not None)
    if not pictures or base is None:
        raise DataError(f"{file} has no pictures with a time. Replace it, or delete it.")
    shown = np.array([stamp for stamp, _ in pictures], dtype=np.int64)
    step = float(shown[-1] - shown[0]) / (len(shown) - 1) if len(shown) > 1 else 0.0
    return Stamps(shown, step or float(pictures[-1][1] or 1), base, stated or 0)
