"""Which videos reach a fit: those of training alone, whatever is fitted, seen from what the stages leave behind.

The same training is made on two stores that differ in one place. Where that must not matter the results are equal to
the last bit, and where it must they differ, or else the comparison could see nothing.
"""

import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from abaw import pipeline
from abaw.evaluate.predictions import load_predictions
from abaw.evaluate.trained import TrainedRun
from abaw.store import FeatureStore
from abaw.tests.support.stores import new_store, put_feature
from abaw.train.config import TrainConfig, make_config
from abaw.train.new_run import load_split, load_tables
from abaw.train.runs import open_run

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTH, N_FRAMES = 4, 60
# two people of one recording, clips cut from another, pieces of a third, and three alone
VIDEOS = ("a_left", "a_right", "b", "b_1", "b_2", "5-60-1920x1080-1", "5-60-1920x1080-2", "p", "q", "r")
RECORDINGS = ({"a_left", "a_right"}, {"b", "b_1", "b_2"}, {"5-60-1920x1080-1", "5-60-1920x1080-2"}, {"p"}, {"q"}, {"r"})
VALIDATED = ("q", "r", "b")
UNSEEN = "p"  # a training video of which a third of the frames has no feature


def is_present(video: str) -> np.ndarray:
    return np.arange(N_FRAMES) >= (20 if video == UNSEEN else 0)


def features_of(video: str) -> np.ndarray:
    return np.random.default_rng(VIDEOS.index(video)).normal(1, 2, (N_FRAMES, WIDTH)).astype(np.float32)


def labels_of(video: str) -> dict[str, np.ndarray]:
    x = features_of(video)
    return {
        "va": np.clip(x[:, :2] / 5, -1, 1),
        "expr": np.clip(x[:, 2] + 3, 0, 7).astype(np.int8)[:, None],
        "au": (np.tile(x, 3) > 2).astype(np.int8),
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> FeatureStore:
    """Ten videos of features `f` and `f@hflip` and labels of three tasks."""
    made = new_store(tmp_path_factory.mktemp("reach") / "store.zarr", {"f": (WIDTH,), "f@hflip": (WIDTH,)})
    for video in VIDEOS:
        put_feature(made, "f", video, features_of(video), is_present(video))
        put_feature(made, "f@hflip", video, features_of(video) + 0.5, is_present(video))
        for task, rows in labels_of(video).items():
            made.write_labels(task, video, "val" if video in VALIDATED else "train", rows)
    return made


@pytest.fixture(scope="module")
def changed(store, tmp_path_factory):
    """A copy of the store in which some videos have other features, or other labels, `changed("features", "q")`."""
    folder = tmp_path_factory.mktemp("changed")
    return cache(lambda what, *videos: change(store, folder, what, videos))


def change(store: FeatureStore, folder: Path, what: str, videos) -> FeatureStore:
    place = folder / f"{what}-{'-'.join(sorted(videos))}.zarr"
    shutil.copytree(store.path, place)
    made = FeatureStore.create(place)
    for video in videos:
        if what == "features":
            for feature in ("f", "f@hflip"):
                made.drop(f"features/{feature}/{video}")
                put_feature(made, feature, video, 9 - 5 * features_of(video)[::-1], is_present(video))
        else:
            change_labels(made, video, slice(None) if what == "labels" else slice(0, 20))
    return made


def change_labels(store: FeatureStore, video: str, rows: slice) -> None:
    """Valence and arousal of the other sign, the rarest class, and the opposite of each action unit."""
    split = store.read_labels("va", video).split
    for task, labels in labels_of(video).items():
        labels[rows] = -labels[rows] / 2 if task == "va" else 7 if task == "expr" else 1 - labels[rows]
        store.drop(f"labels/{task}/{video}")
        store.write_labels(task, video, split, labels)


def config(task: str, head: str, *settings: str) -> TrainConfig:
    usual = ("window=20", "epochs=1", "batch_size=4")
    return make_config({"task": task, "features": ("f",), "head": {"name": head}}, [*usual, *settings])


def fitted(lab, store: FeatureStore, runs: Path, chosen: TrainConfig) -> dict[str, torch.Tensor]:
    """What a training leaves that does not depend on which epoch was best."""
    run = lab.start(store, runs, chosen)
    lab.train(run, store)
    file = run.folder / "last.safetensors"
    tensors, _ = lab.tensors(file if file.exists() else run.folder / "best.safetensors")
    return tensors


def are_equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


FITS = [
    ("va", "linear", ("missing=nearest", "balance=video", "speed=0.5,1.5")),
    ("va", "transformer", ("head.dim=8", "head.layers=1", "head.heads=2", "head.feedforward=8")),
    ("expr", "linear", ("loss.weights=inverse", "balance=class")),
    ("expr", "linear", ("views=,hflip", "co_train=true", "loss.name=cotex")),
    ("au", "linear", ("balance=class",)),
    ("va", "ridge", ()),
    ("expr", "logistic", ()),
    ("au", "logistic", ()),
]


@pytest.mark.parametrize(("task", "head", "settings"), FITS, ids=lambda value: str(value).replace(" ", ""))
def test_validation_videos_reach_no_fit(lab, store, changed, tmp_path, task, head, settings):
    """Neither their features nor their labels; those of a single training video do."""
    chosen = config(task, head, *settings)
    wanted = fitted(lab, store, tmp_path, chosen)
    for what in ("features", "labels"):
        assert are_equal(wanted, fitted(lab, changed(what, *VALIDATED), tmp_path, chosen)), what
        assert not are_equal(wanted, fitted(lab, changed(what, "a_left"), tmp_path, chosen)), what


@pytest.mark.parametrize(("task", "head", "settings"), [FITS[0], FITS[2], FITS[-2]], ids=lambda value: str(value))
def test_validation_videos_of_a_fold_reach_no_fit(lab, store, changed, tmp_path, task, head, settings):
    """Whatever split their labels are of; the other way round, videos of the split val are then trained on."""
    chosen = config(task, head, *settings, "fold=1/3")
    held_out = set(load_tables(chosen, store)[1].videos)
    outside = set(VALIDATED) - held_out
    assert held_out - set(VALIDATED) and outside, "else the fold would be the split"
    wanted = fitted(lab, store, tmp_path, chosen)
    for what in ("features", "labels"):
        assert are_equal(wanted, fitted(lab, changed(what, *sorted(held_out)), tmp_path, chosen)), what
        assert not are_equal(wanted, fitted(lab, changed(what, *sorted(outside)), tmp_path, chosen)), what


@pytest.mark.parametrize(("task", "head", "settings"), FITS[1:], ids=lambda value: str(value))
def test_labels_of_frames_without_a_feature_reach_no_fit(lab, store, changed, tmp_path, task, head, settings):
    """Nor do they count among the classes that weights are made of."""
    chosen = config(task, head, *settings)
    wanted = fitted(lab, store, tmp_path, chosen)
    assert are_equal(wanted, fitted(lab, changed("labels-without-a-feature", UNSEEN), tmp_path, chosen))


@pytest.mark.parametrize(("task", "head"), [("va", "linear"), ("va", "ridge"), ("expr", "logistic")])
@pytest.mark.parametrize("fold", ["", "2/3"])
def test_features_are_standardised_by_the_training_frames(lab, store, tmp_path, task, head, fold):
    """Mean and deviation by numpy, over the frames of the training videos that have the feature."""
    chosen = config(task, head, f"fold={fold}")
    table, validation = load_tables(chosen, store)
    rows = np.concatenate([features_of(video)[is_present(video)] for video in VIDEOS if video not in validation.videos])
    rows = rows.astype(np.float16).astype(np.float64)
    found = fitted(lab, store, tmp_path, chosen)
    prefix = "model." if head == "linear" else ""
    np.testing.assert_allclose(found[f"{prefix}heads.0.inputs.mean"], rows.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(found[f"{prefix}heads.0.inputs.scale"], 1 / rows.std(axis=0), rtol=1e-5)
    assert set(table.videos) == set(VIDEOS) - set(validation.videos)


def test_synthetic_clips_have_no_share_in_the_statistics_and_are_not_validated_on(lab, tmp_path):
    made = new_store(tmp_path / "s.zarr", {"f": (WIDTH,)})
    rng = np.random.default_rng(0)
    real = rng.normal(size=(3, 10, WIDTH)).astype(np.float32)
    for i in range(9):
        split = ("train", "val", "synthetic")[i // 3]
        put_feature(made, "f", f"v{i}", real[i] if i < 3 else rng.normal(50, 9, (10, WIDTH)))
        made.write_labels("vgaf", f"v{i}", split, np.array([[i % 3]], np.int8))
    chosen = make_config(
        {"task": "vgaf", "features": ("f",), "head": {"name": "linear"}}, ["window=10", "epochs=1", "synthetic=0.5"]
    )
    found = fitted(lab, made, tmp_path / "runs", chosen)
    rows = real.astype(np.float16).astype(np.float64).reshape(-1, WIDTH)
    np.testing.assert_allclose(found["model.heads.0.inputs.mean"], rows.mean(axis=0), rtol=1e-4, atol=1e-6)
    table, validation = load_tables(chosen, made)
    assert set(table.videos) == {"v0", "v1", "v2", "v6", "v7", "v8"}
    assert set(validation.videos) == {"v3", "v4", "v5"}
    plain, _ = load_tables(make_config({"task": "vgaf", "features": ("f",)}, ["window=10"]), made)
    assert set(plain.videos) == {"v0", "v1", "v2"}


@pytest.mark.parametrize("head", ["linear", "ridge"])
def test_the_score_of_a_training_is_that_of_the_validation_videos(lab, store, changed, tmp_path, head):
    """So it follows their labels; those of training videos reach it by the weights alone."""
    runs = [lab.start(one, tmp_path, config("va", head)) for one in (store, changed("labels", *VALIDATED))]
    scores = [
        lab.train(run, one).best_score for run, one in zip(runs, (store, changed("labels", *VALIDATED)), strict=True)
    ]
    assert scores[0] != scores[1]
    found = pipeline.evaluate(TrainedRun.open(runs[0], "cpu"), store)
    assert found.official.score == pytest.approx(scores[0], abs=1e-9)
    assert set(found.predictions) == set(VALIDATED)


# splits and folds


def test_splits_have_no_video_in_common_and_are_those_of_the_labels(store):
    table, validation = load_tables(config("va", "linear"), store)
    assert set(validation.videos) == set(VALIDATED)
    assert set(table.videos) == set(VIDEOS) - set(VALIDATED)


@pytest.mark.parametrize("n_folds", [2, 3, 6])
def test_every_video_is_validated_on_once_and_recordings_stay_together(store, n_folds):
    validated = []
    for number in range(1, n_folds + 1):
        table, validation = load_tables(config("va", "linear", f"fold={number}/{n_folds}"), store)
        train, val = set(table.videos), set(validation.videos)
        assert len(train) == len(table.videos) and len(val) == len(validation.videos)
        assert val and not train & val and train | val == set(VIDEOS)
        for recording in RECORDINGS:
            assert recording <= train or recording <= val, "else people are on both sides"
        validated += sorted(val)
    assert sorted(validated) == sorted(VIDEOS)


def test_fold_is_the_same_for_every_stage(store):
    chosen = config("va", "linear", "fold=2/3")
    table, validation = load_tables(chosen, store)
    assert load_split(chosen, store, "train").videos == table.videos
    assert load_split(chosen, store, "val").videos == validation.videos


@pytest.mark.parametrize("fold", ["", "2/3"])
def test_a_split_is_scored_on_its_own_videos(lab, store, tmp_path, fold):
    run = lab.start(store, tmp_path, config("va", "ridge", f"fold={fold}"))
    lab.train(run, store)
    table, validation = load_tables(run.config, store)
    for split, wanted in (("train", table), ("val", validation)):
        found = pipeline.evaluate(TrainedRun.open(run, "cpu"), store, split)
        assert set(found.predictions) == set(wanted.videos)
        assert set(load_predictions(run.folder / f"predictions-{split}.h5")) == set(wanted.videos)
        labels = {video: store.read_labels("va", video).rows for video in wanted.videos}
        for video, one in found.predictions.items():
            np.testing.assert_array_equal(one.labels, labels[video])


# tuning


@pytest.mark.parametrize("task", ["va", "expr", "au"])
def test_validation_videos_reach_no_tuning_on_training_videos(lab, store, changed, tmp_path, task):
    run = lab.start(store, tmp_path, config(task, "ridge" if task == "va" else "logistic"))
    lab.train(run, store)
    wanted = pipeline.tune(run, store, "train", tmp_path, "cpu")
    assert set(wanted.videos) == set(VIDEOS) - set(VALIDATED)
    for what in ("features", "labels"):
        assert pipeline.tune(run, changed(what, *VALIDATED), "train", tmp_path, "cpu") == wanted, what
        assert pipeline.tune(run, changed(what, "a_left"), "train", tmp_path, "cpu") != wanted, what


def test_tuning_on_folds_takes_what_each_fold_validates_on_but_not_what_the_run_does(lab, store, tmp_path):
    for name in ("", "1/3", "2/3", "3/3"):
        lab.train(lab.start(store, tmp_path, config("va", "ridge", f"fold={name}"), f"run{name[:1]}"), store)
    found = pipeline.tune(open_run(tmp_path / "run"), store, "folds", tmp_path, "cpu")
    assert set(found.videos) == set(VIDEOS) - set(VALIDATED)
    assert [one.fold for one in found.runs] == ["1/3", "2/3", "3/3"]
    pooled = {}
    for one in found.runs:
        run = open_run(tmp_path / one.name)
        own = pipeline.evaluate(TrainedRun.open(run, "cpu"), store).predictions
        assert set(own) == set(load_tables(run.config, store)[1].videos)
        pooled |= own
    outputs, labels = (
        np.concatenate([getattr(pooled[video], what) for video in found.videos]) for what in ("outputs", "labels")
    )
    assert found.n_frames == len(outputs) == N_FRAMES * (len(VIDEOS) - len(VALIDATED))
    assert found.score_before == pytest.approx(concordance(np.clip(outputs, -1, 1), labels), abs=1e-6)
    of_fold = pipeline.tune(open_run(tmp_path / "run1"), store, "folds", tmp_path, "cpu")
    held_out = load_tables(open_run(tmp_path / "run1").config, store)[1].videos
    assert set(of_fold.videos) == set(VIDEOS) - set(held_out)


def concordance(x: np.ndarray, y: np.ndarray) -> float:
    """Mean over both columns of Lin's coefficient; every label is there."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    above = 2 * ((x - x.mean(axis=0)) * (y - y.mean(axis=0))).mean(axis=0)
    return float((above / (x.var(axis=0) + y.var(axis=0) + (x.mean(axis=0) - y.mean(axis=0)) ** 2)).mean())
