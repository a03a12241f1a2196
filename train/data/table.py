"""Features and labels of a split in contiguous arrays, which training and evaluation index into."""

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from shlex import quote
from typing import IO, TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from abaw.core.doubles import Doubles, joined
from abaw.core.errors import StoreError, UsageError, first_line
from abaw.core.finite import finite_rows
from abaw.core.memory import free_memory, gigabytes, is_in_memory
from abaw.core.progress import Reporter, Silent
from abaw.core.read_ahead import map_ahead
from abaw.core.tasks import Task
from abaw.store import FeatureStore
from abaw.store.feature_store import StoredVideo, VideoFeature, VideoLabels
from abaw.store.in_turn import VideosInTurn
from abaw.store.label_arrays import problem_of
from abaw.store.plain_arrays import Block
from abaw.train.data.feature_clocks import check_clocks, is_spread, rows_in_time
from abaw.train.data.folds import assign_folds, parse_fold
from abaw.train.data.stored_rows import FarRows, StoredRows

if TYPE_CHECKING:
    from torch import Tensor

    from abaw.train.data.frame_labels import FrameLabels
    from abaw.train.data.on_device import DeviceInputs

SYNTHETIC = "synthetic"  # the split of synthetic clips: mixed into training, never evaluated
UNLABELLED = "test"  # the split of videos without labels, or whose labels count only for the score of that split
ZEROS_BYTES = 2**22  # written at once
AHEAD_BYTES = 2**28  # of batches that are read ahead of their use
Missing = Literal["mask", "nearest"]
StoredVideos = Mapping[str, StoredVideo]  # by name
# takes the name of a feature, finite values of consecutive frames, and whether they are the last of their video
OnRead = Callable[[str, VideoFeature, bool], None]


@dataclass(frozen=True)
class Table:
    """Videos of a split, one after another in every array: `Samples` whose inputs are in memory where they fit.

    Attributes:
        task: task of the labels.
        videos: names; video i has the rows `starts[i]` to `starts[i + 1]`.
        starts: (videos + 1,) int64.
        values: by feature, (rows, *shape) float16 or float32; zero where missing. Empty if they are on a GPU.
        stored: the same for features that are read from the store when they are needed.
        masks: by feature, (rows,) bool, the frame has it or, with `missing="nearest"`, gets it from a neighbour.
        has_feature: (rows,) bool, the frame has at least one feature, before filling.
        has_face: (rows,) bool, the frame has every visual feature (every feature if none is visual), before filling.
        labels: (rows, columns) float32 as published, invalid values included; a video's label is in all its rows.
        valid: (rows, columns) bool, the label is annotated.
        fps: (videos,) frames a second; 0 where the video has no feature.
        synthetic: (videos,) bool, the video is a synthetic clip.
        doubles: second labels of rows that label files list twice; `rows` index the table.
        on_device: features that windows are gathered from instead, see `abaw.train.data.on_device.place`.
        people: who is in each video; empty where unknown.
        frame_labels, weights: see `abaw.train.data.samples.Samples`.
    """

    task: Task
    videos: tuple[str, ...]
    starts: NDArray[np.int64]
    values: Mapping[str, NDArray]
    masks: Mapping[str, NDArray[np.bool_]]
    has_feature: NDArray[np.bool_]
    has_face: NDArray[np.bool_]
    labels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    fps: NDArray[np.float64]
    synthetic: NDArray[np.bool_]
    doubles: Doubles | None = None
    stored: Mapping[str, StoredRows] = field(default_factory=dict)
    on_device: "DeviceInputs | None" = None
    people: tuple[str, ...] = ()
    frame_labels: "FrameLabels | None" = None
    weights: NDArray[np.float32] | None = None

    rows_per_batch: ClassVar[int] = 8_192
    shares: ClassVar[None] = None

    @property
    def n_readers(self) -> int:
        """See `abaw.train.data.samples.Samples`; fewer where batches are large."""
        stored = self.stored.values()
        batch_bytes = self.rows_per_batch * sum(rows.nbytes for rows in stored) // max(1, len(self.labels))
        return max(1, min(max((rows.n_readers for rows in stored), default=1), AHEAD_BYTES // max(1, batch_bytes)))

    def rows(self, video: int) -> slice:
        """Rows of video number `video`."""
        return slice(int(self.starts[video]), int(self.starts[video + 1]))

    def present(self) -> NDArray[np.bool_]:
        """(rows,) bool, at least one feature is in its mask."""
        return np.logical_or.reduce(list(self.masks.values()))

    def inputs(
        self, rows: NDArray[np.int64], inside: NDArray[np.bool_]
    ) -> "tuple[dict[str, Tensor], dict[str, Tensor]]":
        """Inputs of windows, see `abaw.train.data.samples.Samples`."""
        if self.on_device is not None:
            return self.on_device.gather(rows, inside)
        import torch  # what opens and compares runs reads labels alone

        # numpy's take: torch's gather splits even small copies over threads
        features = {name: torch.from_numpy(values.take(rows, axis=0)) for name, values in self.values.items()}
        features |= {name: torch.from_numpy(values.take(rows)) for name, values in self.stored.items()}
        return features, {name: torch.from_numpy(mask.take(rows) & inside) for name, mask in self.masks.items()}

    def doubles_of(self, video: int) -> Doubles | None:
        """The doubles of video number `video`, with rows relative to the video."""
        return self.doubles.between(int(self.starts[video]), int(self.starts[video + 1])) if self.doubles else None


def select_labels(
    store: FeatureStore, task: Task, split: str, fold: str = "", synthetic: bool = False
) -> dict[str, VideoLabels]:
    """Labels of the videos of a split.

    Args:
        fold: empty, or `K/N`: all labelled videos but the synthetic ones and those of split `test` are split into N folds;
            number K is the split `val`, the others are `train`.
        synthetic: add the videos of the synthetic split.

    Raises:
        UsageError: the split is empty, or none of its labels is annotated; the message says what the store has.
    """
    stored = task.selected_from or task
    labels = store.labels(stored.name)
    for video, video_labels in labels.items():
        _check_rows(store, stored, video, video_labels)
    clips = {
        video: of_task(video_labels, task) for video, video_labels in labels.items() if video_labels.split == SYNTHETIC
    }
    selected = take_split(labels, task, split, fold)
    if not selected:
        raise UsageError(_no_labels(store, task, split))
    if split != "train" and not any(task.valid(labels.rows).any() for labels in selected.values()):
        raise UsageError(
            f"None of the {task.name} labels of {split} in {store.path} is annotated, so there is nothing to score. Choose "
            "another --split, or train on folds with --fold 1/5."
        )
    if synthetic and not clips:
        raise UsageError(
            f"{store.path} has no synthetic {task.name} clips to mix in. Create some with `abaw synth` and run "
            "`abaw extract` again, or leave out --set synthetic=..."
        )
    return selected | clips if synthetic else selected


def take_split(labels: Mapping[str, VideoLabels], task: Task, split: str, fold: str = "") -> dict[str, VideoLabels]:
    """The labels of a split, or of a fold, in the columns of a task; empty if there are none.

    Args:
        labels: of all splits, in the columns of the task, or of the task that it is a part of.
        fold: see `select_labels`.
    """
    labels = {video: of_task(video_labels, task) for video, video_labels in labels.items()}
    real = {video: one for video, one in labels.items() if one.split not in (SYNTHETIC, UNLABELLED)}
    if not (fold and real and split in ("train", "val")):
        return {video: labels[video] for video in labels if labels[video].split == split}
    if task.level == "image" and not all(video_labels.person for video_labels in real.values()):
        raise UsageError(
            f"Folds of images need to know who is in each, and the labels of {task.name} do not say so for all. Name their "
            'column in the task file, person = "...", and extract again; or leave out the fold.'
        )
    chosen = parse_fold(fold)
    people = {video: video_labels.person for video, video_labels in real.items()}
    folds = assign_folds(
        {video: len(video_labels.rows) for video, video_labels in real.items()},
        chosen.of,
        people,
        task.level != "image",
    )
    return {video: real[video] for video in real if (folds[video] == chosen.number) == (split == "val")}


def fill_invalid(task: Task, labels: Mapping[str, VideoLabels], number: int) -> dict[str, VideoLabels]:
    """Labels in which the rows that are not annotated have class `number`."""
    return {video: replace(one, rows=np.where(task.valid(one.rows), one.rows, number)) for video, one in labels.items()}


def unlabelled(task: Task, n_rows: Mapping[str, int]) -> dict[str, VideoLabels]:
    """Invalid labels for unlabelled videos, as `load_table` takes them: `n_rows[video]` rows for each video."""
    row = np.array(task.invalid_row, dtype=np.float32)
    return {video: VideoLabels(UNLABELLED, np.tile(row, (n, 1))) for video, n in n_rows.items()}


def of_task(labels: VideoLabels, task: Task) -> VideoLabels:
    """Labels in the columns of a task, which may be a part of the one that they belong to."""
    if not task.whole:
        return labels
    columns = task.taken
    doubles = labels.doubles and Doubles(labels.doubles.rows, labels.doubles.labels[:, columns])
    return replace(labels, rows=labels.rows[:, columns], doubles=doubles)


def _check_rows(store: FeatureStore, task: Task, video: str, labels: VideoLabels) -> None:
    problem = problem_of(task, labels)
    if problem:
        raise StoreError(
            f"The {task.name} labels of video {video!r} are {problem}. Run `abaw store repair {quote(store.path)}` and "
            "the same `abaw extract` again."
        )


def _no_labels(store: FeatureStore, task: Task, split: str) -> str:
    tasks, stored = store.tasks(), task.whole or task.name
    if stored not in tasks:
        content = f"only has labels of {', '.join(tasks)}" if tasks else "has no labels"
        return f"{store.path} {content}, not of {task.name}. Put the label folders next to the crops and run `abaw extract` again."
    splits = sorted({labels.split for labels in store.labels(stored).values()})
    return (
        f"{store.path} has {task.name} labels of {', '.join(splits)}, but not of {split!r}. Put the label files of that split "
        "next to the crops and run `abaw extract` again, choose another --split, or train on folds with --fold 1/5."
    )


def load_table(
    store: FeatureStore,
    task: Task,
    labels: Mapping[str, VideoLabels],
    features: Sequence[str],
    missing: Missing = "mask",
    reporter: Reporter | None = None,
    label: str = "load",
    on_read: OnRead | None = None,
    min_quality: float = 0.0,
) -> Table:
    """Load labelled videos with their features, each read once, checksums verified.

    A video has as many rows as its labels or its features have, whichever are more; rows without features are in
    no mask, rows without labels are invalid. Labelled videos without any feature are included, with empty masks. Features
    that would fill more than half of the free memory stay in the store, and the reporter says so; or they are in unnamed
    temporary files: where the store is compressed, and where $TMPDIR names a disk with room for them.

    Args:
        label: of the progress, which counts videos.
        on_read: called with every feature of every video that is no synthetic clip, in the order of the labels.
        min_quality: mask visual features of frames whose crop has less; crops of unknown quality have 1.

    Raises:
        UsageError: a feature is missing, no labelled video has it, or rows are not on one clock.
        StoreError: a video is damaged, or has a value that is not finite.
    """
    specs = {feature: store.feature_attrs(feature)["spec"] for feature in features}
    known = {feature: store.videos(feature) for feature in features}
    turns = {feature: VideosInTurn(store, feature, labels) for feature in features}
    _check_videos(store, task, labels, known)
    lengths = [_length(task, known, video, video_labels) for video, video_labels in labels.items()]
    forms = {feature: (tuple(spec["shape"]), _dtype_for(known[feature])) for feature, spec in specs.items()}
    try:
        find = partial(_stored_videos, known, turns, store.n_readers)
        table, unread = _empty_table(task, labels, lengths, forms, find, store)
    except (MemoryError, OSError, ValueError) as error:
        raise StoreError(
            f"No memory or disk space for {sum(lengths):,} frames of {', '.join(features)} ({first_line(error)}). Free space "
            "in $TMPDIR, use fewer features, or check with `abaw store verify` for a video with too many frames."
        ) from error
    reporter = reporter or Silent()
    if unread:
        reporter.warn(_note_on_stored(table, store.path, any(map(_are_far, unread.values()))))
    reporter.start(label, len(labels), "videos")
    parts = map_ahead(partial(_read_part, table, turns, known, unread), _parts(table, known, unread), store.n_readers)
    for _ in _fill(table, turns, labels, specs, known, unread, parts, missing, on_read, min_quality):
        reporter.advance()
    reporter.finish()
    return table


def _dtype_for(videos: Mapping[str, Mapping[str, Any]]) -> np.dtype:
    """float16, or float32 where a video of a feature needs it."""
    return np.dtype(np.float32 if any(attrs["dtype"] == "float32" for attrs in videos.values()) else np.float16)


def _check_videos(
    store: FeatureStore, task: Task, labels: Mapping[str, VideoLabels], known: Mapping[str, Mapping[str, Any]]
) -> None:
    """Raise a UsageError if no video has a feature, or if features of a video differ in their clocks."""
    for feature, videos in known.items():
        if not any(video in videos for video in labels):
            splits = "/".join(sorted({video_labels.split for video_labels in labels.values()}))
            raise UsageError(
                f"None of the {len(labels)} {splits} videos with {task.name} labels has the feature {feature} in "
                f"{store.path}. Run `abaw extract` on the data folder that has their crops."
            )
    for video in labels:
        check_clocks(store, task, video, {name: videos[video] for name, videos in known.items() if video in videos})


def _length(task: Task, known: Mapping[str, Mapping[str, Any]], video: str, labels: VideoLabels) -> int:
    """Rows of a video in the table; `known` (videos) is by feature."""
    n_labels = 1 if task.level == "video" else len(labels.rows)  # one label row applies to all frames of a video
    return max([n_labels, *(int(videos[video]["n_frames"]) for videos in known.values() if video in videos)])


def _fill(
    table: Table,
    turns: Mapping[str, VideosInTurn],
    labels: Mapping[str, VideoLabels],
    specs: Mapping[str, Mapping[str, Any]],
    known: Mapping[str, Mapping[str, Any]],
    unread: Mapping[str, StoredVideos],
    parts: Iterator[VideoFeature | Block],
    missing: Missing,
    on_read: OnRead | None,
    min_quality: float,
) -> Iterator[int]:
    """Read labels and features of every video into its rows, and yield its number.

    `turns` (readers), `specs`, `known` (videos) and `unread` (videos of which the table only notes where their values are)
    are by feature; `parts` is what `_read_part` reads.
    """
    visual = [feature for feature, spec in specs.items() if spec.get("modality", "vision") == "vision"] or list(specs)

    for i, video_labels in enumerate(labels.values()):
        rows = table.rows(i)
        n_rows = rows.stop - rows.start
        count = n_rows if table.task.level == "video" else len(video_labels.rows)
        table.labels[rows][:count] = video_labels.rows
        table.valid[rows][:count] = table.task.valid(video_labels.rows)
        by_feature: dict[str, VideoFeature | StoredVideo] = {}
        for feature in (feature for feature in specs if table.videos[i] in known[feature]):
            stored = unread[feature][table.videos[i]] if feature in unread else None
            by_feature[feature] = _take_values(
                table, i, turns[feature], stored, parts, None if table.synthetic[i] else on_read
            )
        spread = {name for name in by_feature if is_spread(known[name][table.videos[i]], n_rows)}
        present = {name: stored.present for name, stored in by_feature.items()}
        shown = {name: _well_shown(turns[name], table.videos[i], min_quality) for name in visual if name in present}
        _fill_masks(table, i, present, shown, spread, visual, missing)
        table.fps[i] = next((stored.fps for name, stored in reversed(by_feature.items()) if name not in spread), 0.0)
        yield i


Part = tuple[int, str, int]  # number of a video, a feature of it, and which of its files; -1 for the whole


def _parts(table: Table, known: Mapping[str, Mapping[str, Any]], unread: Mapping[str, StoredVideos]) -> Iterator[Part]:
    """What `_read_part` reads, in order; arguments as of `_fill`."""
    for i, video in enumerate(table.videos):
        for feature in (feature for feature in known if video in known[feature]):
            numbers = range(unread[feature][video].n_blocks) if feature in unread else (-1,)
            yield from ((i, feature, number) for number in numbers)


def _read_part(
    table: Table,
    turns: Mapping[str, VideosInTurn],
    known: Mapping[str, Mapping[str, Any]],
    unread: Mapping[str, StoredVideos],
    part: Part,
) -> VideoFeature | Block:
    """A feature of a video, whose values go into the table; or one of the files that it stays in."""
    video, feature, number = part
    name = table.videos[video]
    if number >= 0:
        return unread[feature][name].block(number)
    n_frames = int(known[feature][name]["n_frames"])
    return turns[feature].read(name, table.values[feature][table.rows(video)][:n_frames])


def _take_values(
    table: Table,
    video: int,
    turn: VideosInTurn,
    unread: StoredVideo | None,
    parts: Iterator[VideoFeature | Block],
    on_read: OnRead | None,
) -> VideoFeature | StoredVideo:
    """Check the values of a video, which are in the table or in files that the table notes; the video.

    Args:
        unread: the video, if it stays in the store.
        parts: what was read of it comes next.
    """
    if unread is None:
        whole = next(parts)
        assert isinstance(whole, VideoFeature)
        _check_finite(turn, whole, table.videos[video])
        if on_read is not None:
            on_read(turn.feature, whole, True)
        return whole
    for block in islice(parts, unread.n_blocks):
        assert isinstance(block, Block)
        stop = block.start + len(block.values)
        part = VideoFeature(block.values, unread.present[block.start : stop], unread.fps)
        _check_finite(turn, part, table.videos[video], block.start)
        table.stored[turn.feature].place(block, table.rows(video).start + block.start)
        if on_read is not None:
            on_read(turn.feature, part, stop == len(unread.present))
    return unread


def _fill_masks(
    table: Table,
    video: int,
    present_in: Mapping[str, NDArray[np.bool_]],
    shown_in: Mapping[str, NDArray[np.bool_] | None],
    spread: Collection[str],
    visual: Sequence[str],
    missing: Missing,
) -> None:
    """Note which rows of a video have its features, and move the values of rows that take those of others.

    Args:
        present_in: (frames,) bool by feature, as in the store.
        shown_in: (frames,) bool by visual feature, the crop is good enough; None where all are.
        spread: features whose rows are spread over the clip.
    """
    rows = table.rows(video)
    n_rows = rows.stop - rows.start
    table.has_face[rows] = all(feature in present_in for feature in visual)
    for feature, present_frames in present_in.items():
        present = np.zeros(n_rows, dtype=np.bool_)
        present[: len(present_frames)] = present_frames
        source = np.arange(n_rows)
        if feature in spread:
            source = rows_in_time(len(present_frames), n_rows)
            present = present[source]
        table.has_feature[rows] |= present
        if feature in visual:
            table.has_face[rows] &= present
        if (shown := shown_in.get(feature)) is not None:
            present = present & np.pad(shown, (0, n_rows))[source]
        if missing == "nearest" and present.any():
            source = source[nearest_present(present)]
            present = np.ones(n_rows, dtype=np.bool_)
        if feature in spread or missing == "nearest":
            _repeat(table, feature, rows, source)
        table.masks[feature][rows] = present


def _well_shown(turn: VideosInTurn, video: str, min_quality: float) -> NDArray[np.bool_] | None:
    """(frames,) bool, the crop has at least a quality; None where all have, or where it is unknown."""
    quality = turn.read_quality(video) if min_quality else None
    return None if quality is None else quality >= min_quality


def _repeat(table: Table, feature: str, rows: slice, source: NDArray[np.int64]) -> None:
    """Row i of a video takes the values of its row number `source[i]`."""
    if feature in table.stored:
        table.stored[feature].repeat(rows, source)
    else:
        table.values[feature][rows] = table.values[feature][rows][source]


def _check_finite(turn: VideosInTurn, stored: VideoFeature, video: str, start: int = 0) -> None:
    frames = np.flatnonzero(stored.present & ~finite_rows(stored.values)) + 1 + start
    if len(frames):
        raise StoreError(
            f"Feature {turn.feature!r} of video {video!r} is not finite at frame {frames[0]} ({len(frames)} such frames). "
            f"Run `abaw store repair {quote(turn.store.path)}` and the same `abaw extract` again, or import the video again."
        )


def nearest_present(present: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(rows,) the nearest present row of each row; the earlier one of a tie. At least one row must be present."""
    indices = np.flatnonzero(present)
    rows = np.arange(len(present))
    after = np.searchsorted(indices, rows).clip(max=len(indices) - 1)
    before = (after - 1).clip(min=0)
    is_before = np.abs(rows - indices[before]) <= np.abs(indices[after] - rows)
    return np.where(is_before, indices[before], indices[after])


def _empty_table(
    task: Task,
    labels: Mapping[str, VideoLabels],
    lengths: Sequence[int],
    forms: Mapping[str, tuple[tuple[int, ...], np.dtype]],
    find_stored: Callable[[str, Collection[str]], StoredVideos | None],
    store: FeatureStore,
) -> tuple[Table, dict[str, StoredVideos]]:
    """A table without values, and the videos of the features that stay in the store; see `_stored_videos`.

    Args:
        forms: by feature, the shape of a row and the dtype.
    """
    starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    n_rows = int(starts[-1])
    values: dict[str, NDArray] = {}
    stored: dict[str, StoredRows] = {}
    unread: dict[str, StoredVideos] = {}
    # counted here: zeros take no memory until they are overwritten
    budget_bytes = free_memory() // 2 // _n_processes()
    for feature, (frame_shape, dtype) in forms.items():
        shape = (n_rows, *frame_shape)
        n_bytes = math.prod(shape) * dtype.itemsize
        if n_bytes > budget_bytes and not _has_disk(n_bytes) and (videos := find_stored(feature, labels)) is not None:
            unread[feature] = videos
            stored[feature] = FarRows(shape, dtype, store) if _are_far(videos) else StoredRows(shape, dtype)
            continue
        values[feature] = allocate(shape, dtype, budget_bytes)
        if not isinstance(values[feature], np.memmap):
            budget_bytes -= values[feature].nbytes
    table = Table(
        task=task,
        videos=tuple(labels),
        starts=starts,
        values=values,
        masks={feature: np.zeros(n_rows, dtype=np.bool_) for feature in forms},
        has_feature=np.zeros(n_rows, dtype=np.bool_),
        has_face=np.zeros(n_rows, dtype=np.bool_),
        labels=np.tile(np.array(task.invalid_row, dtype=np.float32), (n_rows, 1)),
        valid=np.zeros((n_rows, len(task.columns)), dtype=np.bool_),
        fps=np.zeros(len(labels)),
        synthetic=np.array([video_labels.split == SYNTHETIC for video_labels in labels.values()]),
        doubles=joined([video_labels.doubles for video_labels in labels.values()], starts[:-1]),
        stored=stored,
        people=tuple(video_labels.person for video_labels in labels.values()),
    )
    return table, unread


def _stored_videos(
    known: Mapping[str, Mapping[str, Any]],
    turns: Mapping[str, VideosInTurn],
    n_readers: int,
    feature: str,
    videos: Collection[str],
) -> StoredVideos | None:
    """The videos of a feature, unread; None if one of them can only be read whole."""
    names = [video for video in videos if video in known[feature]]
    stored = {}
    with closing(map_ahead(turns[feature].stored_video, names, n_readers)) as all_unread:
        for video, unread in zip(names, all_unread, strict=True):
            if unread is None:
                return None
            stored[video] = unread
    return stored


def _are_far(videos: StoredVideos) -> bool:
    return any(video.is_far for video in videos.values())


def _note_on_stored(table: Table, store: str, is_far: bool) -> str:
    """A sentence about the features that stay in the store."""
    size = gigabytes(sum(rows.nbytes for rows in table.stored.values()))
    note = (
        f"{', '.join(table.stored)} of {len(table.videos):,} videos ({size} GB) would fill more than half of the free memory: "
        f"it stays in {store}, and windows are read from there."
    )
    return f"{note} Where TMPDIR names a disk with room, it is copied there once instead." if is_far else note


def _n_processes() -> int:
    """Processes of this training on this machine, which load the same tables at the same time."""
    return max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))  # torchrun sets it


def _has_disk(n_bytes: int) -> bool:
    """True if $TMPDIR names a disk with room for so many bytes."""
    folder = os.environ.get("TMPDIR", "")
    try:
        return bool(folder) and shutil.disk_usage(folder).free > n_bytes and not is_in_memory(Path(folder))
    except OSError:
        return False


def allocate(shape: tuple[int, ...], dtype: np.dtype, budget_bytes: int) -> NDArray:
    """Zeros in memory, or in an unnamed temporary file where they are larger than the budget."""
    if math.prod(shape) * dtype.itemsize <= budget_bytes:
        return np.zeros(shape, dtype=dtype)
    # the file has no name: it disappears with the process, even after a crash
    with tempfile.TemporaryFile() as file:
        _take_space(file, math.prod(shape) * dtype.itemsize)
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def _take_space(file: IO[bytes], n_bytes: int) -> None:
    """Make an empty file so long that a full disk is noticed now: a mapped page without room ends the process."""
    try:
        os.posix_fallocate(file.fileno(), 0, n_bytes)
    except (AttributeError, OSError) as error:  # macOS does not have it
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
        zeros = bytes(min(n_bytes, ZEROS_BYTES))
        for start in range(0, n_bytes, ZEROS_BYTES):
            file.write(zeros[: n_bytes - start])
        file.flush()
