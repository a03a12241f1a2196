"""Folds: what stays together, how even they are, and how one is named."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abaw.core.errors import UsageError
from abaw.core.tasks import get_task
from abaw.store.label_arrays import VideoLabels
from abaw.train.data.folds import Fold, assign_folds, group_videos, parse_fold
from abaw.train.data.table import take_split

# names of every form, several of which meet in one recording
stems = st.sampled_from(["video1", "video10", "86", "5-60-1920x1080", "clip", "ann", "film_a"])
suffixes = st.sampled_from(["", "_left", "_right", "_1", "_2", "_12", "-1", "-2", "_1_left", "_talk"])
names = st.builds("".join, st.tuples(stems, suffixes))
video_lengths = st.dictionaries(names, st.integers(0, 5000), min_size=1, max_size=40)


def lengths_of(folds: dict[str, int], videos: dict[str, int], n_folds: int) -> list[int]:
    return [sum(videos[video] for video in folds if folds[video] == fold) for fold in range(1, n_folds + 1)]


# what stays together


@pytest.mark.parametrize(
    "together",
    [
        ["a_left", "a_right"],
        ["a", "a_right"],
        ["a", "a_left", "a_right"],
        ["video86_1", "video86_2", "video86_3"],
        ["a", "a_1", "a_2"],
        ["a_left", "a_1"],
        ["video86", "video86_1_left", "video86_1_right"],
        ["12_1", "12_2", "12_10"],
        ["s01_trial_1", "s01_trial_2"],
        ["5-60-1920x1080-1", "5-60-1920x1080-2", "5-60-1920x1080"],
        ["5-60-1920x1080-1_left", "5-60-1920x1080-4_right"],
    ],
    ids=" ".join,
)
def test_one_recording_is_one_group(together: list[str]) -> None:
    assert list(group_videos(set(together)).values()) == [sorted(together)]
    with pytest.raises(UsageError, match="2 folds need at least 2 groups of videos, found 1 among"):
        assign_folds(dict.fromkeys(together, 10), 2)


@pytest.mark.parametrize(
    "apart",
    [
        ["video1", "video10", "video11"],
        ["clip_1", "clip_2"],
        ["train_0001", "train_0002"],
        ["10-60-1280x720", "10-60-1920x1080", "11-60-1280x720"],
        ["2-30-640x480", "2-30-640x4801"],
        ["a_left", "b_right"],
        ["left", "right"],
        ["_left", "_right"],
        ["upleft", "upright"],
        ["train-anger", "train-fear"],
        ["1-30", "1-25"],
    ],
    ids=" ".join,
)
def test_recordings_of_like_names_are_apart(apart: list[str]) -> None:
    assert list(group_videos(set(apart)).values()) == [[video] for video in sorted(apart)]


@given(video_lengths, st.integers(2, 6))
def test_groups_are_whole_and_every_video_is_in_one_fold(videos: dict[str, int], n_folds: int) -> None:
    groups = group_videos(videos.keys())
    assert sorted(video for group in groups.values() for video in group) == sorted(videos)
    if len(groups) < n_folds:
        with pytest.raises(UsageError, match=f"{n_folds} folds need at least {n_folds} groups"):
            assign_folds(videos, n_folds)
        return
    folds = assign_folds(videos, n_folds)
    assert list(folds) == list(videos)
    assert set(folds.values()) == set(range(1, n_folds + 1))
    for group in groups.values():
        assert len({folds[video] for video in group}) == 1
    for name in videos:
        for sibling in (name + "_left", name + "_right"):
            assert folds.get(sibling, folds[name]) == folds[name]


# how even they are


@given(video_lengths, st.integers(2, 6))
def test_folds_differ_by_no_more_than_the_largest_group(videos: dict[str, int], n_folds: int) -> None:
    groups = group_videos(videos.keys())
    if len(groups) >= n_folds:
        lengths = lengths_of(assign_folds(videos, n_folds), videos, n_folds)
        assert sum(lengths) == sum(videos.values())
        assert max(lengths) - min(lengths) <= max(sum(videos[video] for video in group) for group in groups.values())


@given(video_lengths, st.randoms(use_true_random=False))
def test_order_does_not_matter(videos: dict[str, int], shuffler: random.Random) -> None:
    items = list(videos.items())
    shuffler.shuffle(items)
    if len(group_videos(videos.keys())) >= 3:
        assert assign_folds(dict(items), 3) == assign_folds(videos, 3)


def test_largest_goes_first_into_the_lightest_fold_by_hand() -> None:
    """50 -> 1, 40 -> 2, 30 -> 2 (70), 20 (c's two halves) -> 1 (70), then equal loads: e to the one with fewer videos."""
    videos = {"e": 10, "c_right": 12, "b": 40, "c_left": 8, "a": 50, "d": 30}
    found = assign_folds(videos, 2)
    assert found == {"a": 1, "b": 2, "d": 2, "c_left": 1, "c_right": 1, "e": 2}
    assert lengths_of(found, videos, 2) == [70, 80]


def test_groups_of_equal_length_go_by_name() -> None:
    assert assign_folds({"c": 5, "a": 5, "b": 5}, 3) == {"a": 1, "b": 2, "c": 3}


def test_every_fold_gets_a_video_even_if_all_are_empty() -> None:
    assert sorted(assign_folds(dict.fromkeys("abcd", 0), 4).values()) == [1, 2, 3, 4]


def test_too_few_groups_are_refused() -> None:
    videos = {"a_left": 10, "a_right": 10, "b": 5}
    with pytest.raises(
        UsageError, match=r"3 folds need at least 3 groups of videos, found 2 among 3 videos .* fewer folds"
    ):
        assign_folds(videos, 3)
    with pytest.raises(UsageError, match="found 0 among 0 videos"):
        assign_folds({}, 2)


@pytest.mark.parametrize("n_folds", [1, 0, -3])
def test_one_fold_is_none(n_folds: int) -> None:
    with pytest.raises(UsageError, match=f"at least 2 folds, found {n_folds}"):
        assign_folds({"a": 1, "b": 1}, n_folds)


# how one is named


@pytest.mark.parametrize(("text", "wanted"), [("2/5", Fold(2, 5)), ("1/2", Fold(1, 2)), ("10/10", Fold(10, 10))])
def test_fold_is_read(text: str, wanted: Fold) -> None:
    assert parse_fold(text) == wanted


BAD = ["0/5", "6/5", "a", "1/1", "", "5", "/5", "2/", "2/5/7", "-1/5", "+1/5", " 2/5", "2 / 5", "2/5\n", "²/5", "1.0/5"]


@pytest.mark.parametrize("text", [*BAD, "9" * 5000 + "/5"])
def test_bad_fold_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"A fold is written NUMBER/FOLDS, as 2/5 .*; found '") as caught:
        parse_fold(text)
    assert repr(text) in str(caught.value)


def test_labelled_test_videos_are_in_no_fold() -> None:
    labels = {
        f"{split}{number}": VideoLabels(split, np.zeros((3, 2), dtype=np.float32))
        for split in ("train", "val", "test", "synthetic")
        for number in range(3)
    }
    taken = [take_split(labels, get_task("va"), split, "1/2") for split in ("train", "val")]
    assert not taken[0].keys() & taken[1].keys()
    assert sorted([*taken[0], *taken[1]]) == sorted(name for name in labels if name.startswith(("train", "val")))
    assert list(take_split(labels, get_task("va"), "test", "1/2")) == ["test0", "test1", "test2"]
