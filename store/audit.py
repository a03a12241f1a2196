"""Summaries of a store, and the search for damage in it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np

from abaw.core.errors import StoreError, UnreachableError
from abaw.core.finite import finite_rows
from abaw.core.progress import Reporter
from abaw.core.read_ahead import map_ahead
from abaw.core.tasks import TASKS
from abaw.store import FeatureStore
from abaw.store.claims import ALL, check_unclaimed, claimed
from abaw.store.in_turn import VideosInTurn
from abaw.store.label_arrays import VideoLabels, problem_of
from abaw.store.packs import DamagedIndexError

Listing = TypeVar("Listing")


@dataclass(frozen=True)
class FeatureInfo:
    """Sums over the complete videos of a feature; `n_missing` frames have no value, `n_incomplete` videos are cut off."""

    feature: str
    weights: str
    shape: tuple[int, ...]
    n_videos: int
    n_frames: int
    n_missing: int
    n_bytes: int
    fingerprint: str
    n_incomplete: int


def describe_store(store: FeatureStore) -> list[FeatureInfo]:
    """Sums over the videos of each feature."""
    return [_describe_feature(store, feature) for feature in store.features()]


def _describe_feature(store: FeatureStore, feature: str) -> FeatureInfo:
    attrs = store.feature_attrs(feature)
    complete, incomplete = store.complete_and_incomplete(feature)
    videos = complete.values()
    shape = tuple(attrs["spec"]["shape"])
    n_frames = sum(video["n_frames"] for video in videos)
    itemsizes = (video["n_frames"] * np.dtype(video["dtype"]).itemsize for video in videos)
    return FeatureInfo(
        feature=feature,
        weights=str(attrs["spec"]["weights"]),
        shape=shape,
        n_videos=len(videos),
        n_frames=n_frames,
        n_missing=n_frames - sum(video["n_present"] for video in videos),
        n_bytes=sum(itemsizes) * int(np.prod(shape)),
        fingerprint=str(attrs["fingerprint"]),
        n_incomplete=len(incomplete),
    )


@dataclass(frozen=True)
class LabelInfo:
    """The labels of a task in a split: the number of videos that have them, and the total number of rows.

    Attributes:
        n_people: who are in the videos; 0 where labels do not name all of them.
    """

    task: str
    split: str
    n_videos: int
    n_rows: int
    n_people: int = 0


def describe_label_rows(store: FeatureStore) -> list[LabelInfo]:
    """The labels of a store, by task and split."""
    infos = []
    for task in store.tasks():
        labels = store.labels(task).values()
        for split in sorted({video.split for video in labels}):
            rows = [len(video.rows) for video in labels if video.split == split]
            people = {video.person for video in labels if video.split == split}
            infos.append(LabelInfo(task, split, len(rows), sum(rows), 0 if "" in people else len(people)))
    return infos


@dataclass(frozen=True)
class Problem:
    """A fault in a store.

    Attributes:
        sentence: describes it.
        path: path in the store to drop, so that the next extract writes it again; empty if nothing needs to be dropped.
    """

    sentence: str
    path: str = ""


def verify_store(store: FeatureStore, reporter: Reporter) -> list[Problem]:
    """Read everything: damaged and incomplete videos and labels, and features that disagree on frames.

    Raises:
        StoreError: another command is writing the store; what it is still writing would look incomplete.
    """
    check_unclaimed(store)
    problems = _find_problems(store, reporter)
    if problems:  # they may be of a command that began meanwhile
        check_unclaimed(store)
    return problems


def _find_problems(store: FeatureStore, reporter: Reporter) -> list[Problem]:
    problems = [
        Problem(
            f"Feature {name!r} has damaged attributes and is not read. Delete {store.path}/features/{name} and extract it again."
        )
        for name in store.damaged_features()
    ]
    lengths: dict[str, dict[str, int]] = {}
    listed, damaged = _readable(store.features(), store.complete_and_incomplete)
    problems += damaged + _lost_indexes(store)
    reporter.start("verify", sum(len(complete) for complete, _ in listed.values()), "videos")
    for feature, (videos, incomplete) in listed.items():
        problems += [
            Problem(
                f"Feature {feature!r} of video {video!r} is incomplete. Run the same `abaw extract` again.",
                f"features/{feature}/{video}",
            )
            for video in incomplete
        ]
        counts = map_ahead(partial(_length, VideosInTurn(store, feature, videos)), videos, store.n_readers)
        for video, length in zip(videos, counts, strict=True):
            if isinstance(length, StoreError):
                problems.append(_problem(length, f"features/{feature}/{video}"))
            else:
                lengths.setdefault(video, {})[feature] = length
            reporter.advance()
    for video, by_feature in lengths.items():
        if len(set(by_feature.values())) > 1:
            counted = ", ".join(f"{feature} {n}" for feature, n in by_feature.items())
            problems.append(Problem(f"The features of video {video!r} disagree on its number of frames: {counted}."))
    reporter.finish()
    return problems + _label_problems(store)


def _groups(store: FeatureStore) -> list[str]:
    """Paths of what may be packed."""
    return [*(f"features/{name}" for name in store.features()), *(f"labels/{name}" for name in store.tasks())]


def _lost_indexes(store: FeatureStore) -> list[Problem]:
    readable, _ = _readable(_groups(store), store.packs.lost_index)
    return [Problem(sentence) for sentence in readable.values() if sentence]


def _problem(error: StoreError, path: str) -> Problem:
    return Problem(str(error), "" if isinstance(error, UnreachableError) else path)


def _length(turn: VideosInTurn, video: str) -> int | StoreError:
    """The number of frames of a video, or the error in it."""
    try:
        stored = turn.read(video)
        turn.read_quality(video)
    except StoreError as error:
        return error
    if not finite_rows(stored.values)[stored.present].all():
        return StoreError(f"Feature {turn.feature!r} of video {video!r} has values that are not finite.")
    return len(stored.values)


def _label_problems(store: FeatureStore) -> list[Problem]:
    listed, problems = _readable(store.tasks(), store.label_names)
    for task, names in listed.items():
        found = dict(store.find_labels(task, names))
        problems += [problem for video in names if (problem := _label_problem(store, task, video, found[video]))]
    return problems


def _label_problem(
    store: FeatureStore, task: str, video: str, labels: VideoLabels | StoreError | None
) -> Problem | None:
    path = f"labels/{task}/{video}"
    if labels is None:
        labels = store.incomplete_labels(task, video)
    if isinstance(labels, StoreError):
        return _problem(labels, path)
    what = problem_of(TASKS[task], labels) if task in TASKS else ""
    return Problem(f"The {task} labels of video {video!r} are {what}.", path) if what else None


def _readable(names: Iterable[str], listing: Callable[[str], Listing]) -> tuple[dict[str, Listing], list[Problem]]:
    """What is listed of features or tasks, and the problems of those whose index is damaged."""
    listed, problems = {}, []
    for name in names:
        try:
            listed[name] = listing(name)
        except DamagedIndexError as error:
            problems.append(Problem(str(error), error.path))
    return listed, problems


def repair_store(store: FeatureStore, reporter: Reporter) -> tuple[list[Problem], list[Problem]]:
    """Drop every damaged or incomplete video and label, so that the next extract writes it again.

    What killed processes left in the index of packed videos is deleted, too.

    Returns:
        The problems that were repaired by dropping, and the remaining ones.

    Raises:
        StoreError: another command is writing the store; what it is still writing would look incomplete.
    """
    with claimed(store, [ALL], ""):
        problems = _find_problems(store, reporter)
        store.drop(*(problem.path for problem in problems if problem.path))
        _readable(_groups(store), store.packs.sweep)
    return [problem for problem in problems if problem.path], [problem for problem in problems if not problem.path]
