"""Data against labels: what is missing, what is broken, what is normal for this dataset."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from abaw.datasets.affwild2 import Dataset, Video
from abaw.datasets.images import Crops, read_image
from abaw.datasets.labels import LabelFile
from abaw.datasets.videos import SIDES
from abaw.errors import DataError

DECODE_THREADS = 8


@dataclass(frozen=True)
class VideoReport:
    """What was found of one video.

    Attributes:
        video: its name.
        split: "train", "val", "train+val" (an error), or "" without labels.
        fps, n_frames: of the video file, or assumed.
        n_crops: frames with a crop; `n_missing` are the other frames.
        n_runs: runs of neighbouring missing frames.
        extra_rows: by task, label rows minus frames; one more or less is normal.
        n_labels_without_crop: by task, label rows from 1 to the last one for which there is no crop.
        n_crops_without_label: by task, crops after the last label row.
        warnings, errors: sentences; only errors need mending.
    """

    video: str
    split: str = ""
    fps: float = 0.0
    n_frames: int = 0
    n_crops: int = 0
    n_runs: int = 0
    extra_rows: dict[str, int] = field(default_factory=dict)
    n_labels_without_crop: dict[str, int] = field(default_factory=dict)
    n_crops_without_label: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()

    @property
    def n_missing(self) -> int:
        """Frames without a crop."""
        return self.n_frames - self.n_crops


def examine(dataset: Dataset, on_video: Callable[[], None] = lambda: None) -> list[VideoReport]:
    """Read every crop and label file and report each video, those that are only in the labels included.

    Args:
        on_video: called after each video, for a progress bar.
    """
    labels: dict[str, list[LabelFile]] = {}
    for file in dataset.labels:
        labels.setdefault(file.video, []).append(file)
    reports = []
    with ThreadPoolExecutor(DECODE_THREADS) as pool:
        for video in dataset.videos:
            reports.append(_examine_video(dataset, video, labels.pop(video.name, []), pool))
            on_video()
    for name, files in labels.items():
        sentence = f"{files[0].path} labels a video without crops."
        reports.append(VideoReport(name, _split(files), errors=(*_label_errors(files), sentence)))
    return reports


def _examine_video(dataset: Dataset, video: Video, files: list[LabelFile], pool: ThreadPoolExecutor) -> VideoReport:
    crops = video.crops()
    clock = dataset.clock(video, crops)
    present = np.zeros(clock.n_frames + 1, dtype=np.bool_)
    present[crops.numbers] = True
    present = present[1:]
    rows = dict(_row_counts(files))
    warnings = [clock.warning] if clock.warning else []
    if crops.ignored:
        warnings.append(f"{len(crops.ignored)} files are no crops, such as {crops.ignored[0]}")
    if not len(crops.numbers):
        warnings.append("no crop at all")
    return VideoReport(
        video=video.name,
        split=_split(files),
        fps=clock.fps,
        n_frames=clock.n_frames,
        n_crops=len(crops.numbers),
        n_runs=int(np.sum(~present & np.append(True, present[:-1]))),
        extra_rows={task: n - clock.n_frames for task, n in rows.items()},
        n_labels_without_crop={task: n - int(present[:n].sum()) for task, n in rows.items()},
        n_crops_without_label={task: int(present[n:].sum()) for task, n in rows.items()},
        warnings=tuple(warnings),
        errors=(*_label_errors(files), *_unreadable(crops, pool)),
    )


def _unreadable(crops: Crops, pool: ThreadPoolExecutor) -> Iterator[str]:
    def problem(name: str) -> str:
        try:
            read_image(crops.folder / name)
        except DataError as error:
            return str(error)
        return ""

    return (message for message in pool.map(problem, crops.names) if message)


def _split(files: list[LabelFile]) -> str:
    return "+".join(sorted({file.split for file in files}))


def _row_counts(files: list[LabelFile]) -> Iterator[tuple[str, int]]:
    for file in files:
        try:
            yield file.task, len(file.read())
        except DataError:
            continue  # reported by _label_errors


def _label_errors(files: list[LabelFile]) -> Iterator[str]:
    for file in files:
        try:
            file.read()
        except DataError as error:
            yield str(error)
    yield from conflicts(files)


def conflicts(files: list[LabelFile]) -> Iterator[str]:
    """Sentences for a video that is labelled twice for one task."""
    seen: dict[str, Path] = {}
    for file in files:
        if file.task in seen:
            yield f"{file.path} labels a video that {seen[file.task]} labels too. Delete one of the two."
        seen[file.task] = file.path


def left_right_pairs(reports: list[VideoReport]) -> list[tuple[str, str]]:
    """Pairs of names that are two people in one video, such as (`x_left`, `x_right`) or (`x`, `x_right`)."""
    names = {report.video for report in reports}
    pairs = []
    for name in sorted(names):
        if name.endswith(SIDES[1]):
            base = name.removesuffix(SIDES[1])
            pairs += [(other, name) for other in (base + SIDES[0], base) if other in names][:1]
    return pairs
