"""The layouts of foreign features, and how to find videos in them. Only names and headers are read.

a   <video>/00001.npy                      one file per frame
b   <video>.npz, <video>.h5                one file per video; or one .h5 with a group per video
c   features.npy and features.csv          one array, and a table with the video and frame of each row; or in parts,
                                           train_0.npy, train_1.npy and train.csv with `embedd_idx`
d   <video>.pt, <video>.mp4.img.<N>.pt     one tensor per video
e   <video>.npy, <video>.present.npy       one array per video, as `abaw store export --format npy` writes it
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import h5py

from abaw.core.errors import AbawError, DataError, UsageError, some_of
from abaw.core.names import check_name, composed, is_junk
from abaw.exchange.face_videos import TABLE_SUFFIX, describe_other_tables, find_face_videos
from abaw.exchange.frame_files import SUFFIX as FRAME_SUFFIX
from abaw.exchange.frame_files import FrameFiles, is_frame
from abaw.exchange.hdf5 import SUFFIXES as HDF5_SUFFIXES
from abaw.exchange.hdf5 import Hdf5Video, checked_fps, is_own, open_file
from abaw.exchange.index import find_indexed, has_places, names_rows
from abaw.exchange.npy import ArchiveFile, ArrayFile
from abaw.exchange.provenance import FEATURE_FILE, Origin, read_feature_file, read_origin
from abaw.exchange.source_rows import PRESENT, SourceVideo
from abaw.exchange.tensor_files import SUFFIX as TENSOR_SUFFIX
from abaw.exchange.tensor_files import TensorFile, tensor_file
from abaw.media.face_tables import open_table
from abaw.media.links import check_file, is_broken

SHOWN_KINDS = 4  # of files, in a message
MASK = f".{PRESENT}"
WINDOWS = "_seq"  # ends the names of tables of windows
PART = re.compile(r"(?P<whole>.+)_(?P<number>[0-9]{1,6})")  # of an array
SUFFIXES = (FRAME_SUFFIX, ".npz", *HDF5_SUFFIXES, TENSOR_SUFFIX, TABLE_SUFFIX)


@dataclass
class SourceVideos:
    """The videos in a source.

    Attributes:
        videos: by name, sorted.
        failed: why a video cannot be imported, by name.
        origin: of the feature, if the source is an export of `abaw`.
        modality: "audio" if the file names are those of spectrograms.
        notes: sentences about files that are not read.
        columns: names of the values, where the source has them.
    """

    videos: dict[str, SourceVideo] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    origin: Origin | None = None
    modality: str = "vision"
    notes: list[str] = field(default_factory=list)
    columns: tuple[str, ...] = ()

    def add(self, video: SourceVideo) -> None:
        """Add a video, unless its name is invalid or taken."""
        try:
            check_name(video.name, "video")
            if video.name in self.videos or video.name in self.failed:
                raise DataError("the source has several videos of this name; keep one")
            self.videos[video.name] = video
        except AbawError as error:
            self.videos.pop(video.name, None)
            self.failed[video.name] = str(error)


@dataclass(frozen=True)
class SourceChoice:
    """What to take where a source has more.

    Attributes:
        n_rows: which tensor of a clip, by its number of rows; None takes the largest.
        columns: kinds or names of columns of tables of faces; the default kinds if empty.
        face: which face of such a table; empty takes the surest of each frame.
    """

    n_rows: int | None = None
    columns: tuple[str, ...] = ()
    face: str = ""


def find_videos(path: Path, choice: SourceChoice | None = None) -> SourceVideos:
    """Find the layout of a source and its videos.

    Args:
        path: a folder, an HDF5 file, or a table of faces.
        choice: what to take where there is more.

    Raises:
        DataError: the path does not exist, or has no known layout.
        UsageError: a folder has several layouts, or several kinds of clips.
    """
    if not path.exists() and not path.is_symlink():
        raise DataError(f"{path} does not exist. Choose the folder or file with the features.")
    if not path.is_dir():
        check_file(path)
    layout, files = _find_layout(path)
    source, choice = SourceVideos(), choice or SourceChoice()
    if (choice.columns or choice.face) and layout is not OF_FACES:
        raise UsageError("--columns and --face are about tables of faces, which this source is not. Leave them out.")
    layout.add_videos(source, path, [file for file in files if _is_readable(source, file)], choice)
    source.videos = dict(sorted(source.videos.items()))
    return source


def _find_layout(source: Path) -> tuple["SourceLayout", list[Path]]:
    """The only layout in a source, and its files or folders."""
    if source.is_file():
        paths = [source] if source.suffix.lower() in (*HDF5_SUFFIXES, TABLE_SUFFIX) else []
    else:
        paths = sorted(path for path in source.iterdir() if not is_junk(path.name))
    tables = _tables_in(source)
    files_of = {layout: [path for path in paths if layout.has(path, tables)] for layout in LAYOUTS}
    layouts = [layout for layout, files in files_of.items() if files]
    broken = [path for path in paths if is_broken(path)]
    if not layouts:
        for path in broken:
            check_file(path)
        examples = ", ".join(layout.example for layout in LAYOUTS)
        raise DataError(
            f"{source} has no known layout ({examples}): {_describe(source, paths)}. Convert it to one of these."
            f"{describe_other_tables(source)}"
        )
    if len(layouts) > 1:
        names = " and ".join(layout.name for layout in layouts)
        raise UsageError(f"{source} contains {names}; cannot tell which one you mean. Move one into a separate folder.")
    (layout,) = layouts
    if layout is BY_FRAME:  # an empty folder is a video without frames
        return layout, [path for path in paths if path.is_dir() or path in broken]
    return layout, files_of[layout]


def _describe(source: Path, paths: list[Path]) -> str:
    """What is in a folder without any layout, by kind, with the first name of each; or what a file is."""
    if source.is_file():
        return f"a file that ends in {source.suffix or 'nothing'}"
    names: dict[str, list[str]] = {}
    for path in paths:
        kind = "folder" if path.is_dir() else f"{path.suffix.lower()} file".strip()
        names.setdefault(kind, []).append(path.name)
    kinds = [f"{len(of)} {kind}{'s' * (len(of) > 1)} ({of[0]})" for kind, of in names.items()]
    return f"it has {some_of(kinds, SHOWN_KINDS)}" if kinds else "it is empty"


def _has_frames(path: Path) -> bool:
    return path.is_dir() and any(is_frame(child.name) for child in path.iterdir())


def _tables_in(source: Path) -> dict[str, Path]:
    """The tables of a folder by their names without `.csv`."""
    children = source.iterdir() if source.is_dir() else ()
    return {path.stem: path for path in children if path.suffix.lower() == ".csv" and not is_junk(path.name)}


def _is_readable(source: SourceVideos, path: Path) -> bool:
    """True for a folder, a file, or a link to one; anything else is noted as a failed video."""
    try:
        if not path.is_dir():
            check_file(path)
    except DataError as error:
        source.failed[composed(path.stem if path.suffix.lower() in SUFFIXES else path.name)] = str(error)
        return False
    return True


def _add_frame_folders(source: SourceVideos, root: Path, files: list[Path], choice: SourceChoice) -> None:
    for path in files:
        source.add(FrameFiles(path))


def _add_archives(source: SourceVideos, root: Path, files: list[Path], choice: SourceChoice) -> None:
    for path in files:
        if path.suffix.lower() in HDF5_SUFFIXES:
            _add_hdf5(source, path)
        else:
            source.add(ArchiveFile(composed(path.stem), path))


def _add_indexed(source: SourceVideos, root: Path, files: list[Path], choice: SourceChoice) -> None:
    tables = _tables_in(root)
    parts: dict[Path, list[Path]] = {}
    for path in files:
        if table := _table_of(path, tables):
            parts.setdefault(table, []).append(path)
    source.notes += [
        f"{path.name} is not read: it lists windows, which training draws by itself (--set window=... --set stride=...)"
        for stem, path in tables.items()
        if stem.endswith(WINDOWS)
    ]
    for table, paths in parts.items():
        check_file(table)
        for video in find_indexed(_in_order(paths, table), table):
            source.add(video)


def _table_of(path: Path, tables: Mapping[str, Path]) -> Path | None:
    """The table that describes the rows of an array; None without one."""
    part = PART.fullmatch(path.stem)
    whole = tables.get(part["whole"]) if part else None
    if path.stem not in tables and whole is not None and (is_broken(whole) or has_places(whole)):
        return whole
    return tables.get(path.stem)


def _in_order(paths: list[Path], table: Path) -> list[Path]:
    """Parts of an array by their numbers, which are 0, 1, 2 and so on.

    Parts whose table names their rows are in the order of their names, `train_10` before `train_2`, as for the authors' loader.
    """
    numbers = {
        int(part["number"]): path for path in paths if (part := PART.fullmatch(path.stem)) and path.stem != table.stem
    }
    if not numbers:
        return paths
    if others := [path for path in paths if path not in numbers.values()]:
        raise DataError(
            f"{others[0]} is next to parts of an array that {table.name} describes, and is none of them or has the number of "
            "another. Move it away, or number the parts from 0."
        )
    absent = next((number for number in range(len(numbers)) if number not in numbers), None)
    if absent is not None:
        raise DataError(
            f"{table} describes parts of an array, and {table.stem}_{absent}.npy is missing next to {paths[0].name}. Copy it, "
            "or number the parts from 0."
        )
    return sorted(numbers.values()) if names_rows(table) else [numbers[number] for number in sorted(numbers)]


def _add_hdf5(source: SourceVideos, file: Path) -> None:
    """Add the video of a file with datasets, or a video for each group."""
    try:
        with open_file(file) as opened:
            members = {name: is_own(opened, name) and isinstance(opened[name], h5py.Group) for name in opened}
            if any(members.values()):
                _set_origin(source, read_origin(dict(opened.attrs), str(file)), file)
                for name, is_group in members.items():
                    if is_group:
                        source.add(Hdf5Video(composed(name), file, name))
                    else:
                        source.failed[name] = (
                            f"{file}: {name!r} is a link, or not a group like the others. Make it a group."
                        )
            else:
                source.add(Hdf5Video(composed(file.stem), file))
    except DataError as error:
        source.failed[file.stem] = str(error)
    except UsageError:
        raise
    except Exception as error:  # HDF5 finds damage only where it reads
        source.failed[file.stem] = str(DataError(f"{file} is damaged ({str(error)[:100]}). Copy it again."))


def _set_origin(source: SourceVideos, origin: Origin | None, file: Path) -> None:
    if origin and source.origin and origin.fingerprint != source.origin.fingerprint:
        raise UsageError(f"{file.parent} holds exports of several features. Import them one by one.")
    source.origin = origin or source.origin


def _add_arrays(source: SourceVideos, root: Path, files: list[Path], choice: SourceChoice) -> None:
    """Add a video for each array that is not the mask of another."""
    stems = {file.stem: file for file in files}
    rates: dict[str, object] = {}
    marked: dict[str, set[str]] = {}
    if os.path.lexists(root / FEATURE_FILE):
        source.origin, fps_of, videos_of = read_feature_file(root / FEATURE_FILE)
        rates = {composed(video): fps for video, fps in fps_of.items()}
        marked = {mark: set(map(composed, videos)) for mark, videos in videos_of.items()}
    for file in files:
        name = composed(file.stem)
        masked = file.stem.removesuffix(MASK)
        if masked != file.stem and (masked in stems or composed(masked) in source.failed):
            continue
        if composed(file.stem + MASK) in source.failed:
            source.failed[name] = source.failed.pop(composed(file.stem + MASK))
            continue
        try:
            fps = checked_fps(rates[name], str(root / FEATURE_FILE)) if name in rates else None
        except DataError as error:
            source.failed[name] = str(error)
            continue
        marks = tuple(mark for mark, videos in marked.items() if name in videos)
        source.add(ArrayFile(name, file, stems.get(file.stem + MASK), fps, marks))


def _add_tensors(source: SourceVideos, root: Path, files: list[Path], choice: SourceChoice) -> None:
    """Add a video for each clip: the tensor of the chosen number of rows, or the longest."""
    clips: dict[str, dict[int, TensorFile]] = {}
    twice = []
    kinds = set()
    for clip in map(tensor_file, files):
        kinds.add(clip.kind)
        numbers = clips.setdefault(clip.name, {})
        if clip.n_rows in numbers:
            twice.append(clip)
        numbers[clip.n_rows] = clip
    if len(kinds) > 1:
        shown = " and ".join(sorted(f".{kind}." if kind else "plain" for kind in kinds))
        raise UsageError(
            f"{files[0].parent} holds {shown} tensors, which are separate features. Keep one kind; "
            "`abaw extract` reads both as pictures and sound of VGAF's clips."
        )
    source.modality = "audio" if kinds == {"spec"} else "vision"
    for name, numbers in clips.items():
        chosen = choice.n_rows if choice.n_rows and kinds != {""} else max(numbers)
        if chosen in numbers:
            source.add(numbers[chosen])
        else:
            have = ", ".join(map(str, sorted(numbers)))
            source.failed[name] = f"no tensor has {chosen} rows; there are tensors with {have}; choose with --n-frames"
    for clip in twice:
        source.add(clip)


def _add_face_tables(source: SourceVideos, root: Path, files: list[Path], choice: SourceChoice) -> None:
    """Add the videos of each table."""
    videos, failed, notes = find_face_videos(files, choice.columns, choice.face)
    for video in videos:
        source.add(video)
    source.failed |= failed
    source.notes += notes
    source.columns = tuple(column.name for column in videos[0].columns) if videos else ()


@dataclass(frozen=True)
class SourceLayout:
    """One way in which features are stored in a folder.

    Attributes:
        name: for messages.
        example: its file names, for messages.
        has: whether a path in the folder belongs to this layout; also takes the folder's tables, by name without `.csv`.
        add_videos: adds the videos in the folder to the source; takes source, folder, its files, what to take of them.
    """

    name: str
    example: str
    has: Callable[[Path, Mapping[str, Path]], bool]
    add_videos: Callable[[SourceVideos, Path, list[Path], SourceChoice], None]


def _has_suffix(path: Path, *suffixes: str) -> bool:
    return path.suffix.lower() in suffixes


def _is_array(path: Path) -> bool:
    return _has_suffix(path, ".npy") and not path.is_dir()


BY_FRAME = SourceLayout(
    "one file per frame", "<video>/00001.npy", lambda path, tables: _has_frames(path), _add_frame_folders
)
OF_FACES = SourceLayout(
    "tables of faces",
    "<video>.csv of OpenFace, py-feat or LibreFace",
    lambda path, tables: _has_suffix(path, TABLE_SUFFIX) and open_table(path) is not None,
    _add_face_tables,
)
LAYOUTS = (
    BY_FRAME,
    SourceLayout(
        "one .npz or .h5 per video",
        "<video>.npz, <video>.h5 (or one .h5 with a group per video)",
        lambda path, tables: _has_suffix(path, ".npz", *HDF5_SUFFIXES),
        _add_archives,
    ),
    SourceLayout(
        "an array with a table",
        "features.npy with features.csv",
        lambda path, tables: _is_array(path) and _table_of(path, tables) is not None,
        _add_indexed,
    ),
    SourceLayout(
        "one .npy per video",
        "<video>.npy",
        lambda path, tables: _is_array(path) and _table_of(path, tables) is None,
        _add_arrays,
    ),
    SourceLayout(
        "one .pt per video",
        "<video>.pt, or <video>.mp4.img.<N>.pt",
        lambda path, tables: _has_suffix(path, TENSOR_SUFFIX),
        _add_tensors,
    ),
    OF_FACES,
)
