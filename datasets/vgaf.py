"""The layout of VGAF, the group emotions of EmotiW: short clips of whole scenes, one label for each.

Train_labels.txt, Val_labels.txt       `Vid_name Label` in line 1, then `1_1 3`; also in labels/, or next to tensors
Train/1_1.mp4                          or another folder of `CLIP_FOLDERS`; or, if there is no video file, tensors:
Train/1_1.mp4.img.75.pt                pictures of its frames (see `abaw.media.tensors`); those with the most frames count
Train/1_1.mp4.spec.75.pt               their spectrograms
VGAF_Tensors_all_75/Train/...          the same tensors as their authors keep them; also `_5`, Val/
synthetic/<name>.mp4                   also synthetic/<Label>/<name>.mp4, a folder <name>/00001.jpg, or tensors
synthetic/Positive_labels.txt          names of synthetic clips (with or without their label), also at the root; split
                                       `synthetic`
Synthetic2661_all_75/<Label>/<name>.synt.img.75.pt    tensors of synthetic clips, and `.synt.spec.75.pt`
<Label>/<category>_Video_<i>/0.png     the output of their generator, at the root or in synthetic/; frames from 0

Classes of the last two may have clips of one name: `<Label>-<name>` here.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.clock import Clock
from abaw.core.errors import DataError
from abaw.core.names import composed, is_junk
from abaw.core.tasks import GROUP_EMOTIONS, VGAF
from abaw.datasets.clips import CLIP_S, Clip, ClipTensor
from abaw.datasets.crops import Crops, count_crops, list_crops, natural_order
from abaw.datasets.dataset import Dataset
from abaw.datasets.folders import subfolders
from abaw.datasets.frames import Remark, Video
from abaw.datasets.image_folders import CropFolder, CropFrames
from abaw.datasets.layouts import Layout
from abaw.datasets.video_files import SUFFIXES, People
from abaw.media.text_files import read_lines

LABEL_FILES = {"train": "Train_labels.txt", "val": "Val_labels.txt"}
LABEL_FOLDERS = ("", "labels")
CLIP_FOLDERS = ("Train", "Val", "Test", "videos/Train", "videos/Val", "videos/Test", "videos", "")
SYNTHETIC = "synthetic"  # the split, and the folder
SYNTHETIC_FOLDERS = (SYNTHETIC, *(f"{SYNTHETIC}/{emotion}" for emotion in GROUP_EMOTIONS))
SYNTHETIC_LABEL_FOLDERS = ("", SYNTHETIC, "labels")
HEADER = ("vid_name", "label")
CLASSES = {str(number): number - 1 for number in (1, 2, 3)} | {name.lower(): i for i, name in enumerate(GROUP_EMOTIONS)}
TENSOR = re.compile(r"(?P<name>.+?)(?P<synthetic>\.synt)?\.(?P<kind>img|spec)\.(?P<n_frames>[1-9][0-9]{0,3})\.pt")
REAL_TENSORS = re.compile("vgaf_tensors.*", re.IGNORECASE)  # folders with folders of `TENSOR_SPLITS`
TENSOR_SPLITS = ("Train", "Val", "Test", "")
SYNTHETIC_TENSORS = re.compile("synthetic[0-9_].*", re.IGNORECASE)  # folders with a folder for each class
GENERATED = re.compile(".+_Video_[0-9]+")  # a clip of the authors' generator


@dataclass(frozen=True)
class ClipLabel:
    """The label of a clip: 0 Positive, 1 Neutral, 2 Negative; `path` is the label file or class folder that has it."""

    split: str
    video: str
    path: Path
    emotion: int
    task: str = VGAF.name

    def read(self) -> NDArray:
        """(1, 1) int8."""
        return np.array([[self.emotion]], dtype=np.int8)


class PictureFrames(CropFrames):
    """Frames of a synthetic clip at `fps`, or at the rate that makes the clip last 5 s; numbered from 1 or from 0."""

    @cached_property
    def crops(self) -> Crops:
        """The listing, made on first use."""
        return list_crops(self.folder, is_from_0=True)

    def size(self) -> int:
        """See `FrameSource`."""
        return count_crops(self.folder, is_from_0=True)

    def _make_clock(self) -> Clock:
        numbers = self.crops.numbers
        n_frames = int(numbers[-1]) if len(numbers) else 0
        return Clock(self.fps or max(n_frames, 1) / CLIP_S, n_frames)


class PictureFolder(CropFolder):
    """A synthetic clip as a folder of frames `00001.jpg`; as long as a clip of VGAF."""

    def open(self, fps: float | None, people: People) -> PictureFrames:
        """Its frames; nothing is listed yet."""
        return PictureFrames(self.name, self.path, self.file, fps, people)


def open_vgaf(root: Path, fps: float | None) -> Dataset | None:
    """The clips and labels of VGAF under a root; None if there is no label file of real or synthetic clips.

    Label files with an error and duplicate clips are left out with an error in the remarks. Clips without a label get a
    remark that is not an error.

    Args:
        root: the folder that holds the label files.
        fps: rows per second of clips that exist only as tensors or folders of frames.
    """
    real = [(split, root / folder / name) for split, name in LABEL_FILES.items() for folder in LABEL_FOLDERS]
    real = [(split, path) for split, path in real if path.is_file()] or _labels_of_tensors(root)
    synthetic = [(emotion, root / folder / f"{emotion}_labels.txt") for emotion in GROUP_EMOTIONS
            for folder in SYNTHETIC_LABEL_FOLDERS]  # fmt: skip
    synthetic = [(emotion, path) for emotion, path in synthetic if path.is_file()]
    if not real and not synthetic and not _has_classes(root):
        return None
    clips = _Clips(root)
    labels, remarks = _read_all(real, synthetic)
    _label_by_folder(clips, labels)
    remarks += clips.remarks
    unlabelled = sorted(clips.videos.keys() - labels.keys(), key=natural_order)
    if unlabelled:
        remarks.append(Remark(root.name, f"{len(unlabelled)} clips have no label, such as {unlabelled[0]}", False))
    videos = tuple(clips.videos[name] for name in sorted(clips.videos, key=natural_order))
    return Dataset(root, videos, tuple(labels.values()), fps, tuple(remarks), tuple(clips.tensor_paths))


def read_clip_labels(path: Path, split: str, only: str = "") -> Iterator[ClipLabel]:
    """Parse and check a label file: `<name> <label>` in each line, optionally after a header; labels by number or name.

    Args:
        split: of its clips.
        only: the label that all its clips have; then a line may be just a name.

    Raises:
        DataError: a malformed line, an unknown or wrong label, an invalid name, or a duplicate; names file and line.
    """
    lines_of: dict[str, int] = {}
    for number, line in enumerate(read_lines(path), start=1):
        words = line.split()
        if not words or (number == 1 and tuple(word.lower() for word in words) == HEADER):
            continue
        where, shown = f"{path} line {number}", line.strip()[:60]
        if len(words) != 2 and not (only and len(words) == 1):
            raise DataError(f"{where}: expected a name and a label ('1_1 3'), found {shown!r}. Correct the line.")
        name, label = clip_name(words[0]), words[-1].lower() if len(words) == 2 else only.lower()
        if not name or name != Path(name).name or "\\" in name or name.startswith("."):
            raise DataError(f"{where}: {words[0][:60]!r} is not the name of a clip. Correct the line.")
        if only and label in (only.lower(), str(CLASSES[only.lower()]), str(CLASSES[only.lower()] + 1)):
            label = only.lower()  # the authors number classes of synthetic clips from 0; here from 1, like others
        if label not in CLASSES:
            raise DataError(
                f"{where}: a label is 1 (Positive), 2 (Neutral) or 3 (Negative), found {words[1][:30]!r}. Correct it."
            )
        if only and CLASSES[label] != CLASSES[only.lower()]:
            raise DataError(f"{where}: the clips of this file are {only}, found {words[1]!r}. Correct the line.")
        if name in lines_of:
            raise DataError(f"{where}: clip {name} is already in line {lines_of[name]}. Delete one of the two lines.")
        lines_of[name] = number
        yield ClipLabel(split, name, path, CLASSES[label])


def clip_name(text: str) -> str:
    """The name of a clip without the suffixes of its files: `1_1` for `1_1.mp4` and for `1_1.mp4.img.75.pt`."""
    tensor = TENSOR.fullmatch(text)
    name = composed(tensor["name"] if tensor else text.removesuffix(".synt"))
    return next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)


def _labels_of_tensors(root: Path) -> list[tuple[str, Path]]:
    """The first label file of each split inside the folders of tensors, which may all have a copy."""
    folders = [inner / folder for inner in _matching(root, REAL_TENSORS) for folder in TENSOR_SPLITS]
    paths = {split: [folder / name for folder in folders] for split, name in LABEL_FILES.items()}
    first = {split: next((path for path in tried if path.is_file()), None) for split, tried in paths.items()}
    return [(split, path) for split, path in first.items() if path is not None]


def _has_classes(root: Path) -> bool:
    """True if there are synthetic clips in the folders of their classes, so that they need no label files."""
    generated = (root / folder / emotion for folder in ("", SYNTHETIC) for emotion in GROUP_EMOTIONS)
    return bool(_matching(root, SYNTHETIC_TENSORS)) or any(_matching(folder, GENERATED) for folder in generated)


def _matching(root: Path, pattern: re.Pattern[str]) -> list[Path]:
    """The folders in a folder whose names match a pattern, in natural order."""
    names = [path.name for path in subfolders(root) if pattern.fullmatch(path.name)]
    return [root / name for name in sorted(names, key=natural_order)]


def _read_all(
    real: Iterable[tuple[str, Path]], synthetic: Iterable[tuple[str, Path]]
) -> tuple[dict[str, ClipLabel], list[Remark]]:
    """Labels by clip, and an error for each invalid file."""
    labels: dict[str, ClipLabel] = {}
    remarks = []
    files = [(path, split, "") for split, path in real] + [(path, SYNTHETIC, emotion) for emotion, path in synthetic]
    for path, split, only in files:
        try:
            of_file = {label.video: label for label in read_clip_labels(path, split, only)}
            duplicate = next(iter(labels.keys() & of_file.keys()), None)
            if duplicate is not None:
                raise DataError(
                    f"{path} and {labels[duplicate].path} both label clip {duplicate}. Correct one of them."
                )
            labels |= of_file
        except DataError as error:
            remarks.append(Remark(path.name, str(error)))
    return labels, remarks


def _label_by_folder(clips: "_Clips", labels: dict[str, ClipLabel]) -> None:
    """Add labels of synthetic clips that no file lists but that are in a folder of their class."""
    for name, folder in clips.class_folders.items():
        if name not in labels:
            labels[name] = ClipLabel(SYNTHETIC, name, folder, CLASSES[folder.name.lower()])


class _Clips:
    """The clips under a root.

    Attributes:
        videos: by name.
        class_folders: by name, for synthetic clips in the folder of a class.
        tensor_paths: all tensors of clips, used or not.
        remarks: an error for each duplicate clip.
    """

    def __init__(self, root: Path) -> None:
        self.videos: dict[str, Video] = {}
        self.class_folders: dict[str, Path] = {}
        self.remarks: list[Remark] = []
        self._tensors: dict[str, dict[tuple[str, int], Path]] = {}
        real = [home / split for home in _matching(root, REAL_TENSORS) for split in TENSOR_SPLITS]
        for folder in [*(root / folder for folder in CLIP_FOLDERS), *real]:
            self._add_folder(folder)
        for inner in SYNTHETIC_FOLDERS:
            self._add_folder(root / inner, is_synthetic=True)
        by_class = [folder for home in _matching(root, SYNTHETIC_TENSORS) for folder in subfolders(home)]
        for folder in sorted(path for path in by_class if path.name in GROUP_EMOTIONS):
            self._add_folder(folder, is_synthetic=True, prefix=f"{folder.name}-")
        for emotion in GROUP_EMOTIONS:
            for class_folder in (root / emotion, root / SYNTHETIC / emotion):
                self._add_generated(class_folder)
        for name, paths in self._tensors.items():  # tensors count only without other files
            self.videos.setdefault(name, Clip.of_tensors(name, [ClipTensor(*key, path) for key, path in paths.items()]))

    @property
    def tensor_paths(self) -> Iterator[Path]:
        """All tensors that were found."""
        return (path for paths in self._tensors.values() for path in paths.values())

    def _add_folder(self, folder: Path, is_synthetic: bool = False, prefix: str = "") -> None:
        """Add video files and synthetic clips as folders; collect tensors for later.

        Args:
            prefix: of the names of all clips.
        """
        paths = sorted(path for path in folder.iterdir() if not is_junk(path.name)) if folder.is_dir() else []
        for path in paths:
            tensor = TENSOR.fullmatch(path.name)
            name = prefix + clip_name(path.name)
            if tensor and path.is_file():
                self._tensors.setdefault(name, {}).setdefault((tensor["kind"], int(tensor["n_frames"])), path)
                self._note_class(name, folder)
            elif path.suffix.lower() in SUFFIXES and path.is_file():
                self._add(name, Clip(name, path, path), path)
            elif (
                is_synthetic
                and path.is_dir()
                and path.name not in GROUP_EMOTIONS
                and not GENERATED.fullmatch(path.name)
                and name not in self.videos
            ):
                self._add(name, PictureFolder(name, path, None), path)

    def _add_generated(self, folder: Path) -> None:
        """Add clips of the authors' generator, in the folder of a class."""
        for path in _matching(folder, GENERATED):
            name = f"{folder.name}-{composed(path.name)}"
            self.videos[name] = PictureFolder(name, path, None)
            self.class_folders[name] = folder

    def _add(self, name: str, video: Video, path: Path) -> None:
        existing = self.videos.get(name)
        if existing is not None and existing.file is not None and video.file is not None:
            self._report_duplicate(name, existing.file, video.file)
            return
        self.videos[name] = video
        self._note_class(name, path.parent)

    def _report_duplicate(self, name: str, first: Path, second: Path) -> None:
        """Report two files of one name, unless they have the same size, so that one must be a copy."""
        if first.stat().st_size != second.stat().st_size:
            sentence = f"{second} is not used: {first} has the same name. Rename or delete one of the two."
            self.remarks.append(Remark(name, sentence))

    def _note_class(self, name: str, folder: Path) -> None:
        parent = folder.parent.name
        if folder.name in GROUP_EMOTIONS and (parent == SYNTHETIC or SYNTHETIC_TENSORS.fullmatch(parent)):
            self.class_folders.setdefault(name, folder)


LAYOUT = Layout(open_vgaf, f"VGAF, with {' and '.join(LABEL_FILES.values())} next to its clips")
