"""The road of a new user: archives unpacked as they are, then doctor, extract, train and eval of every task of Aff-Wild2."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from abaw.store import FeatureStore
from abaw.tests.support.archives import CHALLENGES, unpack_archives

SMALL = ("head.dim=16", "head.layers=1", "head.heads=2", "head.feedforward=16", "window=20", "batch_size=8", "epochs=1")


@pytest.fixture(scope="module")
def unpacked(tiny_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny demo as the archives of Aff-Wild2 unpack."""
    root = tmp_path_factory.mktemp("unpacked")
    unpack_archives(tiny_demo, root)
    return root


def test_from_archives_to_scores(
    unpacked: Path, tiny_demo: Path, tiny_store: Path, run_cli: Callable[..., Result], tmp_path: Path
):
    store, runs = tmp_path / "store.zarr", tmp_path / "runs"
    looked = run_cli("doctor", "--data", unpacked)
    assert looked.exit_code == 0
    assert "Not read: batch1.zip: an archive" in looked.stdout and looked.stdout.count("Not read") == 1
    assert looked.stdout.splitlines()[0].startswith(f"{unpacked}: 7 videos")
    assert "training_set_annotations.txt lists 2 images twice" in looked.stdout

    made = run_cli("extract", "--backbone", "hog", "--data", unpacked, "--store", store)
    assert made.exit_code == 0, made.output
    n_labels = {task: len(list((tiny_demo / "labels" / folder).glob("*/*.txt"))) for task, folder in CHALLENGES.items()}
    found = FeatureStore.open(store)
    assert {task: len(found.label_names(task)) for task in CHALLENGES} == n_labels
    plain = FeatureStore.open(tiny_store)  # of the same crops where they lay before
    assert found.videos("hog").keys() == plain.videos("hog").keys()
    for name, attrs in found.videos("hog").items():
        assert attrs["clock"] == "decoded"
        np.testing.assert_array_equal(found.read("hog", name).values, plain.read("hog", name).values)

    settings = [option for setting in SMALL for option in ("--set", setting)]
    for task in ("va", "expr", "au", "mtl"):
        where = ("--store", store, "--runs", runs)
        trained = run_cli("train", "--task", task, "--run", task, *settings, *where)
        assert trained.exit_code == 0, trained.output
        scored = run_cli("eval", task, "--split", "val", "--json", "--data", unpacked, *where)
        assert scored.exit_code == 0, scored.output
        score = json.loads(scored.stdout)
        assert score["task"] == task and np.isfinite(score["official"]["score"])
        if task != "mtl":  # every labelled frame counts, those without a crop too
            labels = found.labels(task, "val")
            assert score["official"]["n_frames"] == n_valid(task, labels)


def n_valid(task: str, labels: dict) -> int:
    """Rows with a valid value, by the published marks of what is none."""
    invalid = -5 if task == "va" else -1
    return sum(int((one.rows != invalid).any(axis=1).sum()) for one in labels.values())
