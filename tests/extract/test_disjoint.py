"""Parts of the work are disjoint, and together all of it: parts of an array job, jobs of workers, splits of labels."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from abaw.core.parts import split_evenly
from abaw.datasets.layouts import open_dataset
from abaw.extract.cluster.jobs import make_jobs
from abaw.extract.plan import ExtractionPlan
from abaw.extract.selection import select_part
from abaw.pipeline import ExtractOptions, extract
from abaw.store import FeatureStore

SIZES = {"a": 9, "b": [2, 7], "c": 30, "d": 1, "e": 12, "f": 3, "g": 9}
VA = "VA_Estimation_Challenge"
LABELS = {"Train_Set": ("a", "c", "e"), "Validation_Set": ("b", "f")}


@pytest.fixture
def data(make_data, make_labels):
    """Seven videos of other lengths, three with labels for training and two for validation."""
    root = make_data(SIZES, size=16)
    for split, videos in LABELS.items():
        for video in videos:
            make_labels(root, f"{VA}/{split}", video, "valence,arousal", "0.5,-0.5")
    return root


@pytest.mark.parametrize("total", [1, 2, 3, 5, 7, 9])
def test_no_two_parts_have_a_video_in_common(data, total):
    dataset = open_dataset(data)
    parts = [select_part(dataset, f"{number}/{total}") for number in range(1, total + 1)]
    names = [[video.name for video in part.videos] for part in parts]
    for first, second in combinations(names, 2):
        assert set(first) & set(second) == set()
    assert Counter(name for part in names for name in part) == Counter(list(SIZES))
    labelled = [sorted(labels.video for labels in part.labels) for part in parts]
    assert labelled == [["a", "b", "c", "e", "f"]] + [[]] * (total - 1), "labels are written by the first part alone"


def test_a_part_is_the_same_whatever_the_order_of_the_videos(data):
    dataset = open_dataset(data)
    turned = replace(dataset, videos=dataset.videos[::-1])
    wanted = {1: {"c"}, 2: {"b", "d", "e", "f"}, 3: {"a", "g"}}  # 30, 18 and 18 crops
    for number in (1, 2, 3):
        one, other = (select_part(found, f"{number}/3").videos for found in (dataset, turned))
        assert {video.name for video in one} == {video.name for video in other} == wanted[number]


def test_parts_are_dealt_by_hand():
    sizes = {"a": 9, "b": 2, "c": 30, "d": 1, "e": 12, "f": 3, "g": 9}
    # the largest first, each to the part that has least: c 30 | e 12 | a 9, g 18 | f 15, b 17, d 18
    assert split_evenly(sizes, 3) == [["c"], ["e", "f", "b", "d"], ["a", "g"]]
    assert split_evenly({"x": 5}, 3) == [["x"], [], []]


def test_parts_of_an_extraction_write_each_video_once(data, tmp_path):
    store, done = tmp_path / "store.zarr", []
    for number in (1, 2, 3):
        summary = extract(ExtractOptions(data, store, ("hog",), device="cpu", part=f"{number}/3"))
        assert summary.ok and summary.skipped == [], "a part leaves nothing to find that another one has made"
        done.append(summary.done)
    assert Counter(name for part in done for name in part) == Counter(list(SIZES))
    assert sorted(FeatureStore.open(store).videos("hog")) == sorted(SIZES)


@pytest.mark.parametrize("n_workers", [1, 2, 5, 40])
def test_each_video_is_in_one_job(n_workers):
    lacking_all = {f"v{number}": 37 * number % 101 + 1 for number in range(60)}
    lacking_one = {f"w{number}": 1000 * number for number in range(1, 8)}
    jobs = make_jobs(ExtractionPlan({("f", "g"): lacking_all, ("g",): lacking_one}, {}), n_workers)
    dealt = Counter((name, job.pending) for job in jobs for name in job.videos)
    wanted = [(name, ("f", "g")) for name in lacking_all] + [(name, ("g",)) for name in lacking_one]
    assert dealt == Counter(wanted)
    assert len({job.name for job in jobs}) == len(jobs)
    for job in jobs:
        halves = job.split()
        assert [half.videos for half in halves] == [(name,) for name in job.videos]
        assert {half.pending for half in halves} == {job.pending}


def test_splits_of_labels_are_disjoint(data, tmp_path):
    store = tmp_path / "store.zarr"
    assert extract(ExtractOptions(data, store, ("hog",), device="cpu")).ok
    opened = FeatureStore.open(store)
    splits = {split: set(opened.labels("va", split)) for split in ("train", "val", "test")}
    assert splits == {"train": {"a", "c", "e"}, "val": {"b", "f"}, "test": set()}
    assert set(opened.labels("va")) == {"a", "b", "c", "e", "f"}
    by_file = {labels.video: labels.split for labels in open_dataset(data).labels}
    assert by_file == {"a": "train", "c": "train", "e": "train", "b": "val", "f": "val"}
    np.testing.assert_array_equal(opened.labels("va", "val")["b"].rows, [[0.5, -0.5]])
