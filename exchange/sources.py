"""Which of the known layouts lies in a folder, and the videos in it. Only names and headers are read.

a   <video>/00001.npy                      one file per frame
b   <video>.npz, <video>.h5                one file per video; or one .h5 with a group per video
c   features.npy and features.csv          one array, and a table with the video and frame of each row
d   <video>.pt, <video>.mp4.img.<N>.pt     one tensor per video
e   <video>.npy, <video>.present.npy       one array per video, as `abaw store export --format npy` writes it
"""

import os
from dataclasses import dataclass, field
from pathlib import Path

import h5py

from abaw.core.errors import AbawError, DataError, UsageError
from abaw.core.names import check_name, composed, is_junk
from abaw.exchange.frame_files import SUFFIX as FRAME_SUFFIX
from abaw.exchange.frame_files import FrameFiles, is_frame
from abaw.exchange.hdf5 import SUFFIXES as HDF5_SUFFIXES
from abaw.exchange.hdf5 import Hdf5Video, checked_fps, is_own, open_file
from abaw.exchange.index import find_indexed
from abaw.exchange.npy import ArchiveFile, ArrayFile
from abaw.exchange.provenance import FEATURE_FILE, Origin, read_feature_file, read_origin
from abaw.exchange.source_rows import PRESENT, SourceVideo
from abaw.exchange.tensor_files import SUFFIX as TENSOR_SUFFIX
from abaw.exchange.tensor_files import TensorFile, tensor_file
from abaw.media.links import check_file, is_broken

KNOWN = (
    "<video>/00001.npy, <video>.npz, <video>.h5 (or one .h5 with a group per video), features.npy with features.csv, "
    "<video>.npy, <video>.pt, or <video>.mp4.img.<N>.pt"
)
MASK = f".{PRESENT}"
SUFFIXES = (FRAME_SUFFIX, ".npz", *HDF5_SUFFIXES, TENSOR_SUFFIX)


@dataclass
class SourceVideos:
    """What lies in a source.

    Attributes:
        videos: by name, in sorted order.
        failed: video -> sentence, those that cannot be imported.
        origin: of the feature, where the source is an export of `abaw`.
        modality: "audio" where names say that these are spectrograms.
    """

    videos: dict[str, SourceVideo] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    origin: Origin | None = None
    modality: str = "vision"

    def add(self, video: SourceVideo) -> None:
        """Take a video, unless its name cannot be one or was there before."""
        try:
            check_name(video.name, "video")
            if video.name in self.videos or video.name in self.failed:
                raise DataError("there is more than one of this name in the source; keep one")
            self.videos[video.name] = video
        except AbawError as error:
            self.videos.pop(video.name, None)
            self.failed[video.name] = str(error)


def find_videos(source: Path, n_rows: int | None = None) -> SourceVideos:
    """Find the layout of a source and its videos.

    Args:
        source: a folder, or an HDF5 file.
        n_rows: of clips with several numbers of rows, which to take; the largest if it is None.

    Raises:
        DataError: nothing is there, or no layout that is known.
        UsageError: several layouts, or several kinds of clips, lie in one folder.
    """
    if not source.exists() and not source.is_symlink():
        raise DataError(f"No {source}. Name the folder, or the HDF5 file, that holds the features.")
    if not source.is_dir():
        check_file(source)
    layout, paths = _tell_layout(source)
    found = SourceVideos()
    files = [path for path in paths if _is_readable(found, path)]
    match layout:
        case "one file per frame":
            for path in files:
                found.add(FrameFiles(path))
        case "one .npz or .h5 per video":
            for path in files:
                if path.suffix.lower() in HDF5_SUFFIXES:
                    _take_hdf5(found, path)
                else:
                    found.add(ArchiveFile(composed(path.stem), path))
        case "an array with a table":
            tables = _tables_in(source)
            for path in files:
                for video in find_indexed(path, check_file(tables[path.stem])):
                    found.add(video)
        case "one .npy per video":
            _take_arrays(found, source, files)
        case "one .pt per video":
            _take_tensors(found, files, n_rows)
    found.videos = dict(sorted(found.videos.items()))
    return found


def _tell_layout(source: Path) -> tuple[str, list[Path]]:
    """The only layout that lies in a source, and its files or folders."""
    if source.is_file():
        paths = [source] if source.suffix.lower() in HDF5_SUFFIXES else []
    else:
        paths = sorted(path for path in source.iterdir() if not is_junk(path.name))
    tables = _tables_in(source)
    arrays = [path for path in paths if path.suffix.lower() == ".npy" and not path.is_dir()]
    layouts = {
        "one file per frame": [path for path in paths if _has_frames(path)],
        "one .npz or .h5 per video": [path for path in paths if path.suffix.lower() in (".npz", *HDF5_SUFFIXES)],
        "an array with a table": [path for path in arrays if path.stem in tables],
        "one .npy per video": [path for path in arrays if path.stem not in tables],
        "one .pt per video": [path for path in paths if path.suffix.lower() == TENSOR_SUFFIX],
    }
    there = [layout for layout, files in layouts.items() if files]
    broken = [path for path in paths if is_broken(path)]
    if not there:
        for path in broken:
            check_file(path)
        raise DataError(f"{source} has none of the known layouts: {KNOWN}. Bring it into one of them.")
    if len(there) > 1:
        raise UsageError(
            f"{source} holds {' and '.join(there)}, and which is meant cannot be told. Move one into a folder of its own."
        )
    if there[0] == "one file per frame":  # folders without a file are videos that lack all frames
        return there[0], [path for path in paths if path.is_dir() or path in broken]
    return there[0], layouts[there[0]]


def _has_frames(path: Path) -> bool:
    return path.is_dir() and any(is_frame(child.name) for child in path.iterdir())


def _tables_in(source: Path) -> dict[str, Path]:
    """The tables of a folder by their names without `.csv`."""
    children = source.iterdir() if source.is_dir() else ()
    return {path.stem: path for path in children if path.suffix.lower() == ".csv" and not is_junk(path.name)}


def _is_readable(found: SourceVideos, path: Path) -> bool:
    """True for a folder, a file, or a link to one; of anything else the video has failed."""
    try:
        if not path.is_dir():
            check_file(path)
    except DataError as error:
        found.failed[composed(path.stem if path.suffix.lower() in SUFFIXES else path.name)] = str(error)
        return False
    return True


def _take_hdf5(found: SourceVideos, file: Path) -> None:
    """A video of a file with datasets, or one of each group."""
    try:
        with open_file(file) as opened:
            members = {name: is_own(opened, name) and isinstance(opened[name], h5py.Group) for name in opened}
            if any(members.values()):
                _take_origin(found, read_origin(dict(opened.attrs), str(file)), file)
                for name, is_group in members.items():
                    if is_group:
                        found.add(Hdf5Video(composed(name), file, name))
                    else:
                        found.failed[name] = f"{file}: {name!r} is a link, or lies beside groups. Make it a group."
            else:
                found.add(Hdf5Video(composed(file.stem), file))
    except DataError as error:
        found.failed[file.stem] = str(error)
    except UsageError:
        raise
    except Exception as error:  # HDF5 finds damage only where it reads
        found.failed[file.stem] = str(DataError(f"{file} is damaged ({str(error)[:100]}). Copy it again."))


def _take_origin(found: SourceVideos, origin: Origin | None, file: Path) -> None:
    if origin and found.origin and origin.fingerprint != found.origin.fingerprint:
        raise UsageError(f"{file.parent} holds exports of several features. Import them one by one.")
    found.origin = origin or found.origin


def _take_arrays(found: SourceVideos, root: Path, files: list[Path]) -> None:
    """A video of each array that is not the mask of another."""
    stems = {file.stem: file for file in files}
    rates: dict[str, object] = {}
    marked: dict[str, set[str]] = {}
    if os.path.lexists(root / FEATURE_FILE):
        found.origin, said, of_mark = read_feature_file(root / FEATURE_FILE)
        rates = {composed(video): fps for video, fps in said.items()}
        marked = {mark: set(map(composed, videos)) for mark, videos in of_mark.items()}
    for file in files:
        name = composed(file.stem)
        masked = file.stem.removesuffix(MASK)
        if masked != file.stem and (masked in stems or composed(masked) in found.failed):
            continue
        if composed(file.stem + MASK) in found.failed:
            found.failed[name] = found.failed.pop(composed(file.stem + MASK))
            continue
        try:
            fps = checked_fps(rates[name], str(root / FEATURE_FILE)) if name in rates else None
        except DataError as error:
            found.failed[name] = str(error)
            continue
        marks = tuple(what for what, videos in marked.items() if name in videos)
        found.add(ArrayFile(name, file, stems.get(file.stem + MASK), fps, marks))


def _take_tensors(found: SourceVideos, files: list[Path], n_rows: int | None) -> None:
    """A video of each clip, with as many rows as were asked for."""
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
        raise UsageError(f"{files[0].parent} holds {shown} tensors, which are features of their own. Keep one kind.")
    found.modality = "audio" if kinds == {"spec"} else "vision"
    for name, numbers in clips.items():
        chosen = n_rows if n_rows and kinds != {""} else max(numbers)
        if chosen in numbers:
            found.add(numbers[chosen])
        else:
            have = ", ".join(map(str, sorted(numbers)))
            found.failed[name] = f"there is no tensor of {chosen} rows, but of {have}; choose with --n-frames"
    for clip in twice:
        found.add(clip)
