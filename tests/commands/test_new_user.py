"""The road of a new user: archives unpacked as they are, then doctor, extract, train and eval of every task of Aff-Wild2."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from abaw.store import FeatureStore

SMALL = ("head.dim=16", "head.layers=1", "head.heads=2", "head.feedforward=16", "window=20", "batch_size=8", "epochs=1")
CHALLENGES = {"va": "VA_Estimation_Challenge", "expr": "EXPR_Recognition_Challenge", "au": "AU_Detection_Challenge"}


@pytest.fixture(scope="module")
def unpacked(tiny_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny demo as the archives of Aff-Wild2 unpack, with what other programs leave between them."""
    root = tmp_path_factory.mktemp("unpacked")
    crops = sorted((tiny_demo / "cropped_aligned").iterdir())
    for number, folder in enumerate(crops):
        place = ("cropped_aligned", "cropped_aligned_new_50_vids")[number % 2]
        shutil.copytree(folder, root / place / folder.name)
        (root / place / folder.name / ".DS_Store").write_bytes(b"\0")
    for number, file in enumerate(sorted((tiny_demo / "videos").iterdir())):
        place = root / ("batch1", "batch2", "new_vids")[number % 3]
        place.mkdir(exist_ok=True)
        shutil.copyfile(file, place / file.with_suffix(".MP4" if number % 2 else ".mp4").name)
    home = root / "6th ABAW Annotations"
    for folder in CHALLENGES.values():
        for split, other in (("Train_Set", "Train_Set"), ("Validation_Set", "validation_set")):
            shutil.copytree(tiny_demo / "labels" / folder / split, home / folder / other)
            for file in list((home / folder / other).iterdir()):  # as an editor on Windows saves them
                file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n") + b"\r\n  \r\n")
    for name in ("training_set_annotations.txt", "validation_set_annotations.txt"):
        lines = (tiny_demo / "labels" / "MTL_Challenge" / name).read_text().splitlines()
        (home / name).write_text("\n".join([*lines, lines[7], lines[9]]) + "\n")  # two images are listed twice
    (root / "__MACOSX" / "batch1").mkdir(parents=True)
    (root / "__MACOSX" / "batch1" / "._a.mp4").write_bytes(b"\0")
    (root / "batch1.zip").write_bytes(b"PK")
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
