"""Runs and ensembles as predictors: one contract for both, what they refuse, and that torch is loaded only to predict."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from abaw import pipeline
from abaw.core.errors import CheckpointError, StoreError, UsageError
from abaw.core.tasks import TASKS
from abaw.evaluate.ensemble import create_ensemble
from abaw.evaluate.predictions import load_predictions
from abaw.evaluate.run_summaries import summarise_runs
from abaw.evaluate.trained import Selection, evaluate, find_predictor, open_predictor, tune
from abaw.tests.support.paths import CHECKOUT
from abaw.train.runs import open_run

pytestmark = pytest.mark.usefixtures("one_thread")

NAMES = pytest.mark.parametrize("name", ["one", "both"])


@pytest.fixture(scope="module")
def runs(lab, linear_store, tmp_path_factory) -> Path:
    """Evaluated runs `one` and `two` of va, and their ensemble `both` with weights 1 and 3."""
    folder = tmp_path_factory.mktemp("trained")
    for name, alpha in (("one", 1), ("two", 100)):
        run = lab.start(linear_store, folder, lab.config("va", f"head.alpha={alpha}", head="ridge"), name)
        lab.train(run, linear_store)
        evaluate(open_predictor(run.folder, "cpu"), linear_store)
    create_ensemble(folder, [open_run(folder / name) for name in ("one", "two")], [1, 3], name="both")
    return folder


@NAMES
def test_a_predictor_says_what_it_is(runs, name):
    predictor = open_predictor(runs / name, "cpu")
    assert (predictor.name, predictor.folder, predictor.features) == (name, runs / name, ("f",))
    assert predictor.task == TASKS["va"]
    assert len(predictor.digest()) == 64
    assert predictor.postprocessing(["v4"]) == {}


def test_an_ensemble_predicts_the_weighted_mean(runs, linear_store):
    one, two = (load_predictions(runs / name / "predictions-val.h5") for name in ("one", "two"))
    both = open_predictor(runs / "both", "cpu").predict(linear_store, Selection("val"))
    assert set(both) == {"v4", "v5"}
    for video, prediction in both.items():
        mean = 0.25 * one[video].outputs + 0.75 * two[video].outputs
        np.testing.assert_allclose(prediction.outputs, mean, atol=1e-6)
        assert np.abs(one[video].outputs - two[video].outputs).max() > 1e-3


def test_a_further_checkpoint_predicts_in_a_folder_of_its_own(runs, linear_store, tmp_path):
    """`best-va` of `one` is the best of `two` here: its predictions are those of `two`, and those of `one` stay."""
    folder = Path(shutil.copytree(runs, tmp_path / "runs"))
    shutil.copy(folder / "two" / "best.safetensors", folder / "one" / "best-va.safetensors")
    other = find_predictor(folder, "one@best-va", "cpu")
    assert (other.name, other.digest()) == ("one@best-va", open_run(folder / "two").digest())
    evaluate(other, linear_store)
    own, two, one = (load_predictions(folder / n / "predictions-val.h5") for n in ("one@best-va", "two", "one"))
    for video, prediction in own.items():
        np.testing.assert_array_equal(prediction.outputs, two[video].outputs)
    tune(open_run(folder / "one@best-va"), linear_store, "train", folder, "cpu")
    assert not (folder / "one" / "postprocess.json").exists()
    pipeline.create_ensemble(folder, ["valence=one@best-va", "arousal=one"], name="parts", raw=True)
    for predictor in (open_predictor(folder / "parts", "cpu"), find_predictor(folder, "parts", "cpu")):
        for video, prediction in predictor.predict(linear_store, Selection("val")).items():
            np.testing.assert_allclose(prediction.outputs[:, 0], two[video].outputs[:, 0], atol=1e-6)
            np.testing.assert_allclose(prediction.outputs[:, 1], one[video].outputs[:, 1], atol=1e-6)
    with pytest.raises(
        UsageError, match=r"Run one has no checkpoint 'best-au'; it has best, best-va\. Write one@best, or"
    ):
        find_predictor(folder, "one@best-au", "cpu")
    assert {summary.name for summary in summarise_runs(folder)[0]} == {"one", "two", "both", "parts"}


@NAMES
def test_rows_without_labels_are_predicted_like_those_with(runs, linear_store, name):
    """Ten rows beyond the end of v4 have no feature and repeat its last output; v5 has all of its 120 rows anyway."""
    predictor = open_predictor(runs / name, "cpu")
    labelled = predictor.predict(linear_store, Selection("val"))
    rows = predictor.predict(linear_store, Selection(rows={"v5": 50, "v4": 130}))
    assert list(rows) == ["v5", "v4"]
    np.testing.assert_array_equal(rows["v5"].outputs, labelled["v5"].outputs)
    np.testing.assert_array_equal(rows["v4"].outputs[:120], labelled["v4"].outputs)
    np.testing.assert_array_equal(rows["v4"].outputs[120:], np.repeat(labelled["v4"].outputs[-1:], 10, axis=0))
    np.testing.assert_array_equal(rows["v4"].has_feature, np.arange(130) < 120)
    assert not TASKS["va"].valid(rows["v4"].labels).any()
    assert TASKS["va"].valid(labelled["v4"].labels).all()


@NAMES
@pytest.mark.parametrize("wanted", [Selection("val"), Selection(rows={"v4": 120})], ids=["split", "rows"])
def test_features_of_another_network_are_refused(lab, runs, tmp_path, name, wanted):
    other = lab.make_store(tmp_path / "other.zarr", ("va",), "b" * 64)
    with pytest.raises(StoreError, match=r"trained on feature 'f' with fingerprint a{12}; the one in .* has b{12}"):
        open_predictor(runs / name, "cpu").predict(other, wanted)


@NAMES
def test_the_saved_interval_is_that_of_the_table(run_cli, runs, linear_store, name):
    words = ("eval", name, "--runs", runs, "--store", linear_store.path, "--device", "cpu", "--data", runs / "none")
    printed = json.loads(run_cli(*words, "--json").stdout)
    assert json.loads((runs / name / "scores-val.json").read_text()) == printed
    assert printed["intervals"] == {"score": [None, None], "valence": [None, None], "arousal": [None, None]}, "2 videos"
    assert printed.get("members") == (["one", "two"] if name == "both" else None)
    printed = json.loads(run_cli(*words, "--split", "train", "--json").stdout)
    line = next(line for line in run_cli(*words, "--split", "train").stdout.splitlines() if "arousal" in line)
    low, high = printed["intervals"]["arousal"]
    assert low < printed["official"]["parts"]["arousal"] < high
    assert f"{low:.3f} to {high:.3f}" in line


def test_an_ensemble_is_scored_as_it_was_made(runs, linear_store):
    for raw, smoothing in ((True, None), (False, "box:5")):
        with pytest.raises(UsageError, match=r"ensemble both has a fixed post-processing"):
            open_predictor(runs / "both", "cpu", raw).evaluate(linear_store, "val", smoothing)


def test_a_checkpoint_is_missed_before_it_is_needed(lab, linear_store, tmp_path):
    run = lab.start(linear_store, tmp_path)
    predictor = open_predictor(run.folder, "cpu")
    with pytest.raises(CheckpointError, match="No checkpoint"):
        predictor.load()


def test_a_device_that_is_missing_is_named(runs):
    with pytest.raises(UsageError, match=r"Device 'cuda:99' cannot be used"):
        open_predictor(runs / "one", "cuda:99").load()


def test_what_is_found_by_name(runs, tmp_path):
    assert find_predictor(runs, "both").name == "both"
    assert find_predictor(tmp_path, str(runs / "both")).name == "both"
    assert find_predictor(runs, None).name == "two", "the newest run"
    with pytest.raises(UsageError, match=r"No run 'three' in .*; available: both, one, two\."):
        find_predictor(runs, "three")
    with pytest.raises(UsageError, match="No run at"):
        open_predictor(tmp_path)


def loaded_by(code: str, *packages: str) -> list[str]:
    """Which packages a new process has loaded at the end."""
    code += f"\nimport sys; print(*[name for name in {packages} if name in sys.modules])"
    environment = {"PYTHONPATH": str(CHECKOUT / ".dev")}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return run.stdout.splitlines()[-1].split()


def test_opening_and_comparing_load_no_torch(runs):
    packages = ("torch", "av", "matplotlib")
    opened = (
        f"from abaw.evaluate.trained import *\nfrom pathlib import Path\nopen_predictor(Path({str(runs / 'both')!r}))"
    )
    assert loaded_by(opened, *packages) == []
    compared = (
        "from abaw.evaluate.compare import compare\nfrom abaw.evaluate.ensemble import find_results\nfrom pathlib import Path\n"
        f"runs = Path({str(runs)!r})\ncompare(*(find_results(runs, name, 'val') for name in ('one', 'both')))"
    )
    assert loaded_by(compared, *packages) == []
