"""The stated length of a sound compared with what could be decoded."""

from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
from av.audio.stream import AudioStream
from av.container import InputContainer

from abaw.media.picture_times import CUT_S

UNKNOWN_SIZE = 0xFFFFFF00  # in the header of a wav that was written into a pipe
STATES_END = ("asf", "ogg")  # containers that state the end of a track, not its length


def describe_cut(file: Path, container: InputContainer, stream: AudioStream, start_s: float, decoded_s: float) -> str:
    """A sentence if a sound ends too early; else empty.

    Args:
        start_s: when it begins, on the clock of the file.
        decoded_s: length of the decoded part.
    """
    stated_s = _stated_s(file, container, stream, start_s, decoded_s)
    if stated_s is None or decoded_s >= stated_s - CUT_S:
        return ""
    return f"the sound in {file.name} is cut off: {decoded_s:.1f} of {stated_s:.1f} s could be decoded"


def _stated_s(
    file: Path, container: InputContainer, stream: AudioStream, start_s: float, decoded_s: float
) -> float | None:
    """The duration that the file states for its sound; None if unknown."""
    if file.suffix.lower() == ".wav":  # FFmpeg corrects the duration to the actual content
        missing_s = _missing_of_wav_s(file, stream)
        return None if missing_s is None else decoded_s + missing_s
    if stream.duration is not None and stream.time_base is not None:
        before_s = start_s if container.format.name in STATES_END else 0.0
        return float(stream.duration * stream.time_base) - before_s
    tag = stream.metadata.get("DURATION", "")  # Matroska: 00:00:03.021000000
    if tag.count(":") == 2:
        first_s = float((stream.start_time or 0) * (stream.time_base or Fraction(0)))
        with suppress(ValueError):
            hours, minutes, seconds = tag.split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds) - first_s
    return container.duration / av.time_base if not container.streams.video and container.duration else None


def _missing_of_wav_s(file: Path, stream: AudioStream) -> float | None:
    """Seconds missing by the size in the header; None if nothing is missing or the header states no size."""
    with file.open("rb") as opened:
        header = opened.read(8)
    size = int.from_bytes(header[4:8], "little") + 8
    n_missing_bytes = size - file.stat().st_size
    rate = stream.codec_context.bit_rate
    if header[:4] != b"RIFF" or n_missing_bytes <= 0 or size >= UNKNOWN_SIZE or not rate:
        return None
    return n_missing_bytes * 8 / rate
