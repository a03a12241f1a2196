"""Sets of still images as tables of pixels: several sets joined, whose images take the place of frames."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import cpu_count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError, UsageError, some_of
from abaw.core.names import check_name
from abaw.core.progress import Reporter
from abaw.core.read_ahead import map_ahead
from abaw.core.tasks import Task, get_task
from abaw.datasets.stills.aligned_stills import FACE, NO_FACE, UNREADABLE, AlignedStills
from abaw.datasets.stills.still_images import StillImages
from abaw.datasets.stills.still_labels import COLUMNS, label_rows, vote_shares
from abaw.datasets.stills.still_layouts import open_still_set
from abaw.datasets.stills.still_set import Still, StillSet
from abaw.media.links import read_bytes
from abaw.store.label_arrays import VideoLabels
from abaw.train import multi_process
from abaw.train.data.table import of_task, take_split
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.pixel_table import PixelTable

FPS = 1.0  # stills have no rate, but predictions need a number
Align = Callable[[StillSet, Reporter], None]


@dataclass(frozen=True)
class StillFolders:
    """The sets that a fine-tuning reads.

    Attributes:
        folders: by name of the set.
        align: aligns the images of a set that are not aligned yet; None where they are.
    """

    folders: Mapping[str, Path]
    align: Align | None = None


@dataclass
class _Part:
    """The images of a set that are used, with their labels.

    Attributes:
        labels: (stills, columns) in the columns of the task as it is stored.
    """

    name: str
    found: StillSet
    stills: list[Still]
    labels: NDArray[np.float32]
    aligned: AlignedStills | None
    warnings: list[str] = field(default_factory=list)

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Leave out the other images."""
        self.stills = [still for still, is_kept in zip(self.stills, kept, strict=True) if is_kept]
        self.labels = self.labels[kept]


def parse_sets(texts: Sequence[str]) -> dict[str, Path]:
    """Folders by name of `NAME=FOLDER` texts.

    Raises:
        UsageError: a text without a name, or a name twice.
    """
    folders: dict[str, Path] = {}
    for text in texts:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise UsageError(f"--images takes NAME=FOLDER, such as rafdb=/data/rafdb; found {text!r}. Add the name.")
        if name in folders:
            raise UsageError(f"--images has two sets called {name}. Give each a name of its own.")
        folders[check_name(name, "set of images")] = Path(folder).expanduser()
    return folders


def load_still_tables(
    config: FinetuneConfig, sets: StillFolders, splits: Sequence[str], reporter: Reporter
) -> list[PixelTable]:
    """A table of pixels for each split, from all sets. A "video" is a subject of a set, or a split of one without subjects.

    Raises:
        UsageError: a set without labels of the task, folds where people are unknown, or a head for frames of videos.
        DataError: a set is unknown, or broken.
    """
    task = config.own_task
    _check(config, task)
    parts = [_read(name, folder, config, task, sets, reporter) for name, folder in sets.folders.items()]
    _check_folds(config, parts)
    _leave_out_shared(parts, get_task(task.whole or task.name), reporter)
    for part in parts:
        reporter_warnings = [*part.found.left_out, *part.warnings]
        if reporter_warnings:
            reporter.warn(f"{part.name}: {'; '.join(reporter_warnings)}.")
    return [_table(config, task, parts, split) for split in splits]


def _check(config: FinetuneConfig, task: Task) -> None:
    if (task.whole or task.name) not in COLUMNS:
        raise UsageError(f"Sets of still images have labels of {', '.join(COLUMNS)}, not of {task.name}.")
    if config.length != 1:
        raise UsageError(
            f"Head {config.head.name} takes windows of {config.length} frames, and still images have no time axis. "
            "Use --head linear or mlp, and window=1."
        )


def _read(name: str, folder: Path, config: FinetuneConfig, task: Task, sets: StillFolders, reporter: Reporter) -> _Part:
    found = open_still_set(folder)
    whole = get_task(task.whole or task.name)
    labels = label_rows(found.stills, whole.name, config.contempt)
    columns = of_task(VideoLabels("", labels), task).rows
    has_label: NDArray[np.bool_] = np.any(task.valid(columns), axis=1)
    if not has_label.any():
        raise UsageError(
            f"{name} ({found.kind}) has labels of {', '.join(found.tasks) or 'no task'}, not of {task.name}. Leave out "
            f"--images {name}={folder}."
        )
    aligned = None
    part = _Part(name, found, list(found.stills), labels, None)
    if n_without := int((~has_label).sum()):
        part.warnings.append(f"{n_without:,} images have no label of {task.name}" + _why(found, config, task))
    part.keep(has_label)
    if not config.aligned:
        if sets.align is not None:
            labelled, align = replace(found, stills=tuple(part.stills)), sets.align
            multi_process.from_first(lambda: align(labelled, reporter))
        aligned = AlignedStills(folder)
        _keep_faces(part, aligned)
    return replace(part, aligned=aligned)


def _why(found: StillSet, config: FinetuneConfig, task: Task) -> str:
    has_contempt = any(still.expression == len(get_task("expr").outputs) for still in found.stills)
    is_dropped = has_contempt and config.contempt == "drop" and "expr" in (task.name, *(p.name for p in task.parts))
    return ", contempt among them (contempt=other makes it Other)" if is_dropped else ""


def _keep_faces(part: _Part, aligned: AlignedStills) -> None:
    """Keep the images that have an aligned face."""
    seen = np.array([aligned.seen.get(still.name, "") for still in part.stills], dtype=object)
    if n_unknown := int((seen == "").sum()):
        raise UsageError(
            f"{n_unknown:,} images of {part.found.root} have no aligned faces in {aligned.folder}. Take the images as they "
            "are with --aligned, or run the same `abaw finetune --images` again, which aligns them."
        )
    states = {
        NO_FACE: "images have no face that is found; --aligned takes images as they are",
        UNREADABLE: "images cannot be read",
    }
    for state, reason in states.items():
        if n_images := int((seen == state).sum()):
            first = part.stills[int(np.flatnonzero(seen == state)[0])]
            part.warnings.append(f"{n_images:,} {reason}, such as {first.name}")
    part.keep(seen == FACE)
    if not part.stills:
        raise UsageError(
            f"No image of {part.name} has a face that is found. Take its images as they are with --aligned."
        )


def _check_folds(config: FinetuneConfig, parts: Sequence[_Part]) -> None:
    for part in parts:
        if config.fold and not part.found.has_subjects:
            raise UsageError(
                f"{part.name} ({part.found.kind}) does not say who is in its images, so that they cannot be dealt into "
                "folds of people. Leave out --fold, or this set."
            )


def _leave_out_shared(parts: Sequence[_Part], task: Task, reporter: Reporter) -> None:
    """Leave out images of several sets whose labels contradict, or that are in training and validation; keep others once."""
    if len(parts) < 2:
        return
    kept = [np.ones(len(part.stills), dtype=np.bool_) for part in parts]
    contradictions: list[str] = []
    for group in _same_content(parts):
        rows = np.stack([parts[number].labels[row] for number, row in group])
        names = " and ".join(f"{parts[number].name}/{parts[number].stills[row].name}" for number, row in group)
        valid = task.valid(rows)
        agree = all(len(np.unique(rows[valid[:, column], column])) <= 1 for column in range(rows.shape[1]))
        if not agree:
            contradictions.append(names)
        splits = [parts[number].stills[row].split for number, row in group]
        first = next((i for i, split in enumerate(splits) if split != "train"), 0)  # not trained on where it is scored
        for i, (number, row) in enumerate(group):
            kept[number][row] = agree and i == first
    for part, is_kept in zip(parts, kept, strict=True):
        if n_shared := int((~is_kept).sum()):
            part.warnings.append(f"{n_shared:,} images are in another set, too, and count once or not at all")
        part.keep(is_kept)
    if contradictions:
        reporter.warn(
            f"{len(contradictions):,} images are in two sets with labels that contradict, and are left out: "
            f"{some_of(contradictions, 1)}."
        )


def _same_content(parts: Sequence[_Part]) -> list[list[tuple[int, int]]]:
    """Groups of (number of a part, row) whose files have the same bytes, of several parts."""
    by_size: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, part in enumerate(parts):
        for row, still in enumerate(part.stills):
            size = (part.aligned or AlignedStills(part.found.root)).size_of(still)
            if size:
                by_size[size].append((number, row))
    several = [place for places in by_size.values() if len({number for number, _ in places}) > 1 for place in places]

    def digest(place: tuple[int, int]) -> tuple[bytes, tuple[int, int]]:
        number, row = place
        try:
            content = read_bytes(parts[number].found.root / parts[number].stills[row].file)
        except DataError:  # it is counted when it is to be decoded
            content = repr(place).encode()
        return hashlib.sha256(content).digest(), place

    groups: defaultdict[bytes, list[tuple[int, int]]] = defaultdict(list)
    for key, place in map_ahead(digest, several, cpu_count() or 1):
        groups[key].append(place)
    return [group for group in groups.values() if len({number for number, _ in group}) > 1]


def _units(parts: Sequence[_Part]) -> dict[str, tuple[_Part, NDArray[np.int64]]]:
    """By name, rows of a part that are one subject, or one split."""
    units: dict[str, tuple[_Part, NDArray[np.int64]]] = {}
    for part in parts:
        rows: defaultdict[str, list[int]] = defaultdict(list)
        for row, still in enumerate(part.stills):
            rows[(still.subject if part.found.has_subjects else "") or still.split].append(row)
        for key, numbers in sorted(rows.items()):
            name = check_name(f"{part.name}-{key}", "subject")
            if name in units:
                raise UsageError(f"Two sets have images called {name}. Give one of them another name in --images.")
            units[name] = (part, np.array(numbers))
    return units


def _table(config: FinetuneConfig, task: Task, parts: Sequence[_Part], split: str) -> PixelTable:
    units = _units(parts)
    labels = {
        name: VideoLabels(
            part.stills[int(rows[0])].split, part.labels[rows], person=name if part.found.has_subjects else ""
        )
        for name, (part, rows) in units.items()
    }
    selected = take_split(labels, task, split, config.fold)
    if not selected:
        raise UsageError(_no_split(parts, split))
    starts = np.concatenate([[0], np.cumsum([len(one.rows) for one in selected.values()])]).astype(np.int64)
    chosen = [(units[name][0], [units[name][0].stills[row] for row in units[name][1]]) for name in selected]
    rows = np.concatenate([one.rows for one in selected.values()]).astype(np.float32)
    shares = None
    if config.votes == "soft" and split == "train":
        shares = np.concatenate([vote_shares(stills, config.contempt) for _, stills in chosen])
    return PixelTable(
        task=task,
        videos=tuple(selected),
        starts=starts,
        labels=rows,
        valid=task.valid(rows),
        synthetic=np.zeros(len(selected), dtype=np.bool_),
        sources=[StillImages(part.found.root, stills, part.aligned) for part, stills in chosen],
        has_feature=np.ones(len(rows), dtype=np.bool_),
        fps=np.full(len(selected), FPS),
        shares=shares,
        people=tuple(one.person for one in selected.values()),
    )


def _no_split(parts: Sequence[_Part], split: str) -> str:
    """A sentence on sets without a split."""
    names = ", ".join(f"{part.name} ({part.found.kind})" for part in parts)
    sentence = f"{names} {'has' if len(parts) == 1 else 'have'} no images of the split {split}"
    if split == "val" and all(part.found.has_subjects for part in parts):
        return f"{sentence}. Deal the people into folds with --fold 1/3, or add a set that has them."
    return f"{sentence}. Add a set that has them, or put them into a folder {split} or a column split."
