"""Transcripts of a dataset: a folder of files named after the videos, or a table with their texts.

transcription/<video>.yml                .json of Whisper, .vtt, .srt, too; in folders of any depth
transcription/.../<video>.mp4/<any>.yml  as in BAH
video_annotation_transcript.yaml         BAH's file of all videos, if there is no folder
TABLE.csv#COLUMN                         named by the user: a text for each clip, or several with start and end

The folder is called transcription, transcripts, transcriptions or subtitles, and is in the data folder or one level
further down. Names may be those of video files (`a.mp4.srt`), and may end in a language (`a.en.srt`, `a.pt-BR.vtt`).
"""

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from abaw.core.errors import DataError, did_you_mean, some_of
from abaw.core.names import composed, is_junk
from abaw.datasets.dataset import Dataset
from abaw.datasets.folders import folded, subfolders
from abaw.datasets.frames import FrameSource, Video
from abaw.datasets.media_search import name_of_video
from abaw.datasets.video_files import SUFFIXES as VIDEO_SUFFIXES
from abaw.datasets.video_files import People
from abaw.media.file_content import content_of, has_content
from abaw.media.text_files import bounded_lines, check_commas, open_text
from abaw.media.transcript_files import (
    MOST_CHUNKS,
    SUFFIXES,
    Transcript,
    read_transcript,
    transcript_from_rows,
    transcript_of,
)
from abaw.media.yaml_text import read_yaml

FOLDERS = ("transcription", "transcripts", "transcriptions", "subtitles")
ALL_VIDEOS = "video_annotation_transcript.yaml"
KEY = "transcript"  # of a video in that file
SKIPPED = frozenset({"all_cues", "certainty_ah", "fr_detailed_ah", "frame_annotation", "time_detailed_ah"})
MAX_BYTES = 2**29  # of that file, which lists all frames
MAX_DEPTH, SHOWN_FILES = 6, 4
# in the tags of languages, as programs write them: en, deu, pt-BR, zh_Hans, en-orig
LANGUAGE = re.compile(r"(?P<video>.+)\.(?P<language>[a-zA-Z]{2,3}(?:[-_][a-zA-Z0-9]{2,8}){0,2})")
CLIP_COLUMNS = ("clip", "video", "name", "file", "filename", "path", "video_name", "file_name")
TEXT_COLUMNS = ("text", "transcript", "transcription", "sentence", "utterance", "subtitle")
START_COLUMNS, END_COLUMNS = ("start", "start_s", "begin", "start_time"), ("end", "end_s", "stop", "end_time")


@dataclass(frozen=True)
class TranscriptSource:
    """Where the transcript of a video is.

    Attributes:
        file: that holds it, perhaps with those of other videos.
        transcript: None if the file has to be read.
    """

    file: Path
    transcript: Transcript | None = None

    def read(self) -> Transcript:
        """The transcript.

        Raises:
            DataError: the file cannot be read.
        """
        return self.transcript or read_transcript(self.file)

    def content(self) -> str:
        """Identifies what was read, for `has_content`."""
        return content_of(self.file) if self.transcript is None else ""

    def has_content(self, content: str) -> bool:
        """True if the file has the content of an earlier `content`, and if that is empty."""
        return has_content(self.file, content)


@dataclass(frozen=True)
class Transcripts:
    """The transcripts of a dataset.

    Attributes:
        place: the folder or file that they are in; None if there is none.
        of_video: by name of the video.
        twice: by name of the video, two files that both have its name.
        languages: names in `of_video` that end in a language, by the name before that.
    """

    place: Path | None = None
    of_video: Mapping[str, TranscriptSource] = field(default_factory=dict)
    twice: Mapping[str, tuple[Path, Path]] = field(default_factory=dict)
    languages: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def unclear(self) -> set[str]:
        """Names in `of_video` of which one has to be chosen first."""
        return {*self.twice, *(name for names in self.languages.values() if len(names) > 1 for name in names)}

    def of(self, video: Video | FrameSource, people: People) -> TranscriptSource | None:
        """The transcript of a video, or of the video that a person is in; None without one.

        Args:
            people: of the same dataset.

        Raises:
            DataError: two files have the name of the video, or several its name and a language.
        """
        # with a file of this name, it is not a person in another video
        is_whole = video.file is not None and composed(video.file.stem) == video.name
        names = (video.name,) if is_whole else (video.name, people.base_of(video.name))
        name = next((name for name in names if name in self.of_video or name in self.languages), "")
        if name not in self.of_video and name in self.languages:
            whole, (name, *others) = name, self.languages[name]
            if others:
                files = [self.of_video[one].file.name for one in (name, *others)]
                raise DataError(
                    f"{self.place} has transcripts of {whole} in several languages: {some_of(files, SHOWN_FILES)}. Keep one of "
                    f"them there, or rename one to {whole}{Path(files[0]).suffix}."
                )
        if name in self.twice:
            first, second = self.twice[name]
            raise DataError(f"{first} and {second} are both transcripts of {name}. Delete one of them.")
        return self.of_video.get(name)


def transcript_digest(frames_digest: str, source: TranscriptSource | None) -> str:
    """sha256 over the sources of the text features of a video.

    Args:
        frames_digest: `FrameSource.digest` of the video, which fixes its clock and its number of frames.
        source: of its transcript.
    """
    if source is None:
        return hashlib.sha256(f"{frames_digest} no transcript".encode()).hexdigest()
    what = repr(source.transcript) if source.transcript is not None else str(source.file.stat().st_size)
    return hashlib.sha256(f"{frames_digest} transcript {source.file.name} {what}".encode()).hexdigest()


def transcript_place(root: Path) -> Path | None:
    """The folder of transcripts of a dataset, or BAH's file of all videos; None without either."""
    homes = (root, *subfolders(root))
    for home in homes:
        by_name = {folded(folder.name): folder for folder in subfolders(home)}
        if folder := next((by_name[name] for name in FOLDERS if name in by_name), None):
            return folder
    return next((home / ALL_VIDEOS for home in homes if (home / ALL_VIDEOS).is_file()), None)


def find_transcripts(root: Path, named: str = "") -> Transcripts:
    """The transcripts of a dataset.

    Args:
        root: of the dataset.
        named: by the user: a folder, a YAML file of all videos, or `TABLE.csv#COLUMN`; empty for `transcript_place`.

    Raises:
        DataError: there is no such folder, or the file or table cannot be read.
    """
    table, _, column = named.partition("#")
    place = Path(table).expanduser() if named else transcript_place(root)
    if place is None:
        return Transcripts()
    if not place.exists():
        raise DataError(f"There is no folder or table of transcripts {place}. Correct --transcripts.")
    if place.is_dir():
        return _in_folder(place)
    read = _read_all_videos if place.suffix.lower() in (".yml", ".yaml") else partial(_read_table, column=column)
    of_video = {name: TranscriptSource(place, transcript) for name, transcript in read(place).items()}
    return Transcripts(place, of_video)


def describe_transcripts(dataset: Dataset, transcripts: Transcripts) -> str:
    """How many videos of a dataset have a transcript."""
    if transcripts.place is None:
        return (
            f"No transcripts: {dataset.root} has no folder {FOLDERS[0]}/. Name theirs with --transcripts; without one, the "
            "features of text have no rows."
        )
    has_one = [video.name for video in dataset.videos if _has_one(video, transcripts, dataset.people)]
    sentence = f"Transcripts: {len(has_one):,} of {len(dataset.videos):,} videos have one in {transcripts.place}."
    if has_one or not transcripts.of_video or not dataset.videos:
        return sentence
    first, video = next(iter(transcripts.of_video)), dataset.videos[0].name
    return f"{sentence} The first is named {first!r}, and the first video {video!r}: name them alike."


def _has_one(video: Video, transcripts: Transcripts, people: People) -> bool:
    try:
        return transcripts.of(video, people) is not None
    except DataError:
        return True


def _in_folder(folder: Path) -> Transcripts:
    """The files of a folder and those below, of several of one name the first of `SUFFIXES`."""
    best: dict[str, Path] = {}
    twice: dict[str, tuple[Path, Path]] = {}
    files = sorted(_files_below(folder, MAX_DEPTH), key=lambda file: (SUFFIXES.index(file.suffix.lower()), file))
    for file in files:
        name = _name_of(file)
        first = best.setdefault(name, file)
        if first != file and first.suffix.lower() == file.suffix.lower():
            twice.setdefault(name, (first, file))
    languages: dict[str, list[str]] = {}
    for name in sorted(best):
        if tagged := LANGUAGE.fullmatch(name):
            languages.setdefault(name_of_video(tagged["video"]), []).append(name)
    return Transcripts(folder, {name: TranscriptSource(file) for name, file in best.items()}, twice, languages)


def _files_below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        paths = sorted(path for path in folder.iterdir() if not is_junk(path.name))
    except OSError:
        return
    for path in paths:
        if path.suffix.lower() in SUFFIXES and path.is_file():
            yield path
        elif depth and path.is_dir():
            yield from _files_below(path, depth - 1)


def _name_of(file: Path) -> str:
    """The video that a transcript is of: its own name, or that of a folder that is named like a video file."""
    if file.parent.suffix.lower() in VIDEO_SUFFIXES:
        return name_of_video(file.parent.name)
    return name_of_video(file.stem)


def _read_all_videos(path: Path) -> dict[str, Transcript]:
    """The transcripts in BAH's file of all videos, by video."""
    content = read_yaml(path, SKIPPED, MAX_BYTES)
    if not isinstance(content, dict) or not any(isinstance(of, dict) and KEY in of for of in content.values()):
        raise DataError(f"{path} is no file of transcripts: expected a transcript under the path of each video.")
    return {
        name_of_video(name): transcript_of(path, of[KEY])
        for name, of in content.items()
        if isinstance(of, dict) and isinstance(of.get(KEY), dict)
    }


def _read_table(path: Path, column: str) -> dict[str, Transcript]:
    """The texts of a table, by video.

    Args:
        column: with the texts; empty for a usual name.
    """
    rows: dict[str, list[tuple[str, str, str]]] = {}
    with open_text(path) as stream:
        lines = csv.DictReader(bounded_lines(stream, path))
        try:
            header = [name.strip() for name in lines.fieldnames or ()]
            check_commas(path, header)
            lines.fieldnames = header
            clip, text = (
                _column(path, header, CLIP_COLUMNS),
                _column(path, header, (column,) if column else TEXT_COLUMNS),
            )
            start, end = (_column(path, header, names, is_needed=False) for names in (START_COLUMNS, END_COLUMNS))
            for line in lines:
                of_video = rows.setdefault(name_of_video(line[clip] or ""), [])
                of_video.append(
                    (line[text] or "", (line.get(start) or "") if start else "", (line.get(end) or "") if end else "")
                )
                if len(of_video) > MOST_CHUNKS:
                    raise DataError(
                        f"{path} line {lines.line_num}: more than {MOST_CHUNKS:,} texts of one video. Split it."
                    )
        except (csv.Error, UnicodeError) as error:
            raise DataError(f"{path} cannot be read as CSV ({error}). Copy it again.") from error
    return {name: transcript_from_rows(path, of_video) for name, of_video in rows.items()}


def _column(path: Path, header: Sequence[str], names: Sequence[str], is_needed: bool = True) -> str:
    """The first of some names that is a column, in any case of letters."""
    by_name = {name.casefold(): name for name in reversed(header)}
    column = next((by_name[name.casefold()] for name in names if name.casefold() in by_name), "")
    if is_needed and not column:
        near = did_you_mean(names[0], header) if len(names) == 1 else ""
        other = f"Name the column of the texts with --transcripts {path.name}#COLUMN."
        remedy = f"Call the column of the clips {names[0]}." if names == CLIP_COLUMNS else other
        raise DataError(
            f"{path} has no column {' or '.join(names)}; its columns are {', '.join(header)[:200]}. {near}{remedy}"
        )
    return column
