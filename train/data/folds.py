"""Folds for cross-validation: videos that share people or surroundings stay together."""

import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Protocol

from abaw.core.errors import UsageError
from abaw.core.parts import parse_k_of_n
from abaw.core.people import describe_shared, drawn_with, person_of, without_side
from abaw.core.tasks import Task

_NUMBERED = re.compile(r"(.+)_[0-9]+")
_PIECE = re.compile(
    r"(.*[0-9]x[0-9]+)-[0-9]+"
)  # one piece of a recording with its resolution in the name: 5-60-1920x1080-2


@dataclass(frozen=True)
class Fold:
    """Fold `number`, from 1, out of `of`; training on the other folds is validated on its videos."""

    number: int
    of: int


def parse_fold(text: str) -> Fold:
    """The fold that `text` names, as `2/5` the second of five.

    Raises:
        UsageError: invalid form, fewer than two folds, or no such fold.
    """
    fold = parse_k_of_n(text)
    if fold is None or fold[1] < 2:
        raise UsageError(
            f"A fold is written NUMBER/FOLDS, as 2/5 for the second of five, counted from 1, with at least 2 folds; found {text!r}."
        )
    return Fold(*fold)


def assign_folds(
    videos: Mapping[str, int], n_folds: int, people: Mapping[str, str] | None = None, by_name: bool = True
) -> dict[str, int]:
    """Put each video into a fold, 1 to `n_folds`, so that folds have similar numbers of frames.

    The largest group of videos goes first, each into the fold with the fewest frames: the difference between
    folds is at most the size of the largest group. The result depends on names and numbers alone, not on their order.
    scikit-learn's GroupKFold orders groups of equal size differently; existing runs rely on this assignment.

    Args:
        videos: number of frames by video.
        people: who is in a video, where it is known; videos of one person stay together.
        by_name: videos whose names are those of one recording stay together, too.

    Raises:
        UsageError: fewer than two folds, or fewer groups of videos than folds.
    """
    if n_folds < 2:
        raise UsageError(f"Cross-validation needs at least 2 folds, found {n_folds}.")
    groups = group_videos(videos.keys(), people, by_name)
    if len(groups) < n_folds:
        raise UsageError(
            f"{n_folds} folds need at least {n_folds} groups of videos, found {len(groups)} among {len(videos)} videos (videos "
            "of one recording or person stay together). Choose fewer folds."
        )
    n_frames = {name: sum(videos[video] for video in group) for name, group in groups.items()}
    folds: dict[str, int] = {}
    # frames, videos, number: the videos break ties, so that groups without frames go into empty folds first
    loads = [(0, 0, number) for number in range(1, n_folds + 1)]
    for name in sorted(groups, key=lambda name: (-n_frames[name], name)):
        lightest = min(loads)
        frames, n_videos, number = lightest
        loads[loads.index(lightest)] = (frames + n_frames[name], n_videos + len(groups[name]), number)
        folds |= dict.fromkeys(groups[name], number)
    return {video: folds[video] for video in videos}


class OfPerson(Protocol):
    """Labels of a video."""

    @property
    def split(self) -> str:
        """`train`, `val` or another."""

    @property
    def person(self) -> str:
        """Who is in the video; empty if unknown."""


def shared_people(labels: Mapping[str, OfPerson], task: Task, split: str) -> str:
    """A sentence about people who are in the videos of a split and of the training; empty without such."""
    people: dict[str, set[str]] = {}
    for video, one in labels.items():
        people.setdefault(one.split, set()).add(drawn_with(video, one.person, task.level))
    return describe_shared(people.get("train", ()), people.get(split, ()), split) if split != "train" else ""


def group_videos(
    videos: Set[str], people: Mapping[str, str] | None = None, by_name: bool = True
) -> dict[str, list[str]]:
    """Videos of one recording, sorted, under the name of the recording; recordings of one person are one.

    Two or more people in a recording are `<recording>_left` and `<recording>_right`, with or without a bare
    `<recording>` with them, or `<recording>_1`, `<recording>_2`; the same holds for clips of it, such as `video86_1`
    and `video86_3` of Aff-Wild2, and pieces such as `5-60-1920x1080-2`. A number after `_` counts within a recording only
    if the name before it has a digit too or is itself a video: `clip_1` and `clip_2` are two
    recordings. All answers of a person in BAH, `82532_Question_1_...`, stay together.
    """
    bare = {without_side(video) for video in videos}
    groups: dict[str, list[str]] = {}
    for video in sorted(videos):
        groups.setdefault(_recording(video, bare) if by_name else video, []).append(video)
    return _joined_by_person(groups, people) if people else groups


def _joined_by_person(groups: Mapping[str, list[str]], people: Mapping[str, str]) -> dict[str, list[str]]:
    """Groups that share a person, directly or through others, as one, under the first of their names."""
    parent = {name: name for name in groups}

    def first(name: str) -> str:
        while parent[name] != name:
            name = parent[name] = parent[parent[name]]
        return name

    group_of: dict[str, str] = {}  # a group that has the person
    for name, videos in groups.items():
        for person in filter(None, (people.get(video, "") for video in videos)):
            one, other = sorted((first(name), first(group_of.setdefault(person, name))))
            parent[other] = one
    joined: dict[str, list[str]] = {}
    for name, videos in groups.items():
        joined.setdefault(first(name), []).extend(videos)
    return {name: sorted(videos) for name, videos in joined.items()}


def _recording(video: str, bare: Set[str]) -> str:
    """The name of a video without the suffixes for parts of one recording."""
    name = without_side(video)
    if (person := person_of(name)) != name:
        return person
    if match := _PIECE.fullmatch(name):
        return _recording(match[1], bare)
    match = _NUMBERED.fullmatch(name)
    if match and (match[1] in bare or any(character.isdigit() for character in match[1])):
        return _recording(match[1], bare)
    return name
