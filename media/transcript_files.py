"""Transcripts with times: Whisper's JSON in its several forms, YAML of BAH, SRT and WebVTT.

    YAML        {chunks: [{text, timestamp: [start, end]}]}              BAH; likewise JSON of transformers' pipeline
    JSON        {segments: [{start, end, text, words: [{start, end, word}]}]}   openai-whisper, WhisperX, the API
                [{start, end, text}]                                     a list of faster-whisper's segments
                {transcription: [{offsets: {from, to}, text}]}           whisper.cpp, milliseconds
    SRT, VTT    00:01:02,500 --> 00:01:04,000 and lines of text

Times are seconds from the first picture of the video on, as those of a separate sound file.
"""

import html
import math
import re
import reprlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from abaw.core.errors import DataError
from abaw.core.json_files import read_json
from abaw.media.links import check_file
from abaw.media.text_files import read_lines
from abaw.media.yaml_text import MAX_BYTES, read_yaml

SUFFIXES = (".json", ".yml", ".yaml", ".vtt", ".srt")  # in order of preference: the first have words
MOST_CHUNKS = 50_000
MOST_SECONDS = 1e6
NO_TIME = ("", "null", "~", "none", "nan")
_CLOCK = r"(?:(\d{1,4}):)?(\d{1,2}):(\d{1,2})[.,](\d{1,3})"
CUE = re.compile(rf"\s*{_CLOCK}\s*-->\s*{_CLOCK}")
MARKUP = re.compile(r"<[^<>]*>|\{\\[^{}]*\}")
NO_CUES = ("WEBVTT", "NOTE", "STYLE", "REGION")  # begin blocks of WebVTT that are not read


@dataclass(frozen=True)
class Chunk:
    """What is said from one time to another.

    Attributes:
        text: without spaces at its ends; not empty.
        start_s, end_s: seconds; the end is infinite if the chunk lasts to the end of the video.
    """

    text: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Transcript:
    """What is said in a video.

    Attributes:
        chunks: in the order of their beginnings.
        words: single words where the file has their times; else empty.
        notes: sentences about what was left out.
    """

    chunks: tuple[Chunk, ...]
    words: tuple[Chunk, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """All that is said."""
        return " ".join(chunk.text for chunk in self.chunks)

    @property
    def is_timed(self) -> bool:
        """False for a text without times."""
        return any(math.isfinite(chunk.end_s) for chunk in self.chunks)


def read_transcript(path: Path) -> Transcript:
    """Read a file, see the head of this module.

    Raises:
        DataError: it cannot be read, is too large, or has no times where they should be.
    """
    suffix = path.suffix.lower()
    if suffix in (".srt", ".vtt"):
        return _transcript(path, _cues(path))
    if suffix != ".json":
        return transcript_of(path, read_yaml(path))
    try:
        content = read_json(check_file(path))
    except (ValueError, OSError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}). Copy it again.") from error
    return transcript_of(path, content)


def transcript_of(path: Path, content: Any) -> Transcript:
    """The transcript in the parsed content of a JSON or YAML file.

    Args:
        path: for errors.

    Raises:
        DataError: it has none of the known forms.
    """
    if isinstance(content, list):
        return _transcript(path, _entries(path, content), _words_of(path, content))
    if not isinstance(content, dict):
        raise DataError(f"{path} is no transcript: {_forms()}.")
    for key in ("segments", "chunks", "transcription"):
        if isinstance(content.get(key), list):
            parts = content[key]
            words = next((content[name] for name in ("word_segments", "words") if content.get(name)), None)
            listed = _entries(path, words) if isinstance(words, list) else _words_of(path, parts)
            return _transcript(path, _entries(path, parts), listed)
    if isinstance(content.get("words"), list):
        return _transcript(path, _entries(path, content["words"]), _entries(path, content["words"]))
    if isinstance(content.get("text"), str):
        return _transcript(path, [(content["text"], None, None)])
    raise DataError(
        f"{path} is no transcript: {_forms()}; it has {', '.join(map(str, list(content)[:5])) or 'nothing'}."
    )


def transcript_from_rows(path: Path, rows: Sequence[tuple[str, str, str]]) -> Transcript:
    """The transcript in the rows of a table.

    Args:
        path: for errors.
        rows: text, start and end in seconds, the times empty if unknown: a text without any lasts through the whole video.

    Raises:
        DataError: a time is no number.
    """
    parts = [{"text": text, "start": start, "end": end} for text, start, end in rows]
    return _transcript(path, _entries(path, parts))


def _forms() -> str:
    return "expected segments (Whisper), chunks (BAH, transformers) or transcription (whisper.cpp)"


Entry = tuple[str, float | None, float | None]  # text, start and end


def _entries(path: Path, parts: Sequence[Any]) -> Iterator[Entry]:
    """Text and times of segments, chunks or words."""
    for number, part in enumerate(parts, start=1):
        if not isinstance(part, dict):
            raise DataError(f"{path}: part {number} is {_shown(part)!r}, not a text with times. Transcribe again.")
        text = next((part[key] for key in ("text", "word") if isinstance(part.get(key), str)), "")
        start, end, unit_s = part.get("start"), part.get("end"), 1.0
        times = part.get("timestamp")
        if times is not None and not _is_no_time(times):
            if not isinstance(times, list) or len(times) != 2:
                raise DataError(
                    f"{path}: part {number} has the timestamp {_shown(times)!r}, not a start and an end. Correct it."
                )
            start, end = times
        elif isinstance(part.get("offsets"), dict):
            start, end, unit_s = part["offsets"].get("from"), part["offsets"].get("to"), 1e-3
        where = f"{path}: part {number}"
        yield text, _seconds(start, unit_s, where), _seconds(end, unit_s, where)


def _shown(value: object) -> str:
    """The beginning of a value. In YAML a list may hold one list many times, which is endless as text."""
    return (value if isinstance(value, str) else reprlib.repr(value))[:40]


def _words_of(path: Path, parts: Sequence[Any]) -> Iterator[Entry]:
    """The words inside of segments."""
    for part in parts:
        if isinstance(part, dict) and isinstance(part.get("words"), list):
            yield from _entries(path, part["words"])


def _is_no_time(value: object) -> bool:
    return isinstance(value, str) and value.strip().lower() in NO_TIME


def _seconds(value: object, unit_s: float, where: str) -> float | None:
    """A time; None if it is missing."""
    if value is None or _is_no_time(value):
        return None
    try:
        seconds = float(value) * unit_s if isinstance(value, str | int | float) and not isinstance(value, bool) else -1
    except (ValueError, OverflowError):
        seconds = -1
    if not 0 <= seconds <= MOST_SECONDS:
        raise DataError(f"{where} has the time {_shown(value)!r}, not a number of seconds from 0. Correct it.")
    return seconds


def _cues(path: Path) -> Iterator[Entry]:
    """The cues of SRT and WebVTT, without markup."""
    if check_file(path).stat().st_size > MAX_BYTES:
        raise DataError(f"{path} has more than {MAX_BYTES:,} bytes, which is no transcript. Delete it.")
    times: tuple[float, float] | None = None
    text: list[str] = []
    lines, n_cues = read_lines(path), 0
    for line in (*lines, ""):
        match = CUE.match(line)
        if (match or not line.strip()) and times is not None:
            if match and text and text[-1].isdigit():
                text.pop()  # the number of the next cue: the blank line before it is missing
            yield html.unescape(MARKUP.sub("", " ".join(text))), *times
            times, n_cues = None, n_cues + 1
        if match:
            times, text = (_clock(match.groups()[:4]), _clock(match.groups()[4:])), []
        elif times is not None:
            text.append(line.strip())
        elif "-->" in line and not line.startswith(NO_CUES):
            raise DataError(
                f"{path}: {line.strip()[:60]!r} is no time such as 00:01:02,500 --> 00:01:04,000. Correct it."
            )
    if not n_cues and any(line.strip() for line in lines) and not lines[0].startswith(NO_CUES[0]):
        raise DataError(f"{path} has text and no time such as 00:01:02,500 --> 00:01:04,000. Transcribe again.")


def _clock(parts: Sequence[str | None]) -> float:
    """Seconds of hours, minutes, seconds and the digits after the point."""
    hours, minutes, seconds, digits = (part or "0" for part in parts)
    return int(hours) * 3600 + int(minutes) * 60 + int(seconds) + int(digits) / 10 ** len(digits)


def _transcript(path: Path, entries: Iterable[Entry], words: Iterable[Entry] = ()) -> Transcript:
    chunks, n_reversed = _in_order(path, entries)
    # words that could not be aligned have no times
    single, _ = _in_order(path, (word for word in words if None not in word))
    note = f"{path.name}: {n_reversed} of its chunks end before they begin, and are left out"
    return Transcript(chunks, single, (note,) if n_reversed else ())


def _in_order(path: Path, entries: Iterable[Entry]) -> tuple[tuple[Chunk, ...], int]:
    """Chunks in the order of their beginnings, and the number of those that end before they begin.

    A chunk without a beginning begins where the one before it ended; one without an end lasts up to the next one.
    """
    known: list[tuple[float, str, float | None]] = []
    last_s, n_reversed = 0.0, 0
    for text, start_s, end_s in entries:
        if len(known) == MOST_CHUNKS:
            raise DataError(f"{path} has more than {MOST_CHUNKS:,} chunks. Split it.")
        start_s = last_s if start_s is None else start_s
        last_s = max(start_s, end_s or 0.0)
        n_reversed += end_s is not None and end_s < start_s
        text = " ".join(text.encode(errors="replace").decode().split())  # JSON may hold halves of characters
        if text and (end_s is None or end_s >= start_s):
            known.append((start_s, text, end_s))
    known.sort(key=itemgetter(0))
    starts = [*(start_s for start_s, _, _ in known), math.inf]
    chunks = (
        Chunk(text, start_s, starts[bisect_right(starts, start_s)] if end_s is None else end_s)
        for start_s, text, end_s in known
    )
    return tuple(chunks), n_reversed
