"""An ensemble keeps to how it was made: raw or post-processed, and by its weights, in scores and in submissions."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from abaw import pipeline
from abaw.core.files import save_json
from abaw.core.tasks import ACTION_UNITS, AU, VA
from abaw.evaluate.combining import combine
from abaw.evaluate.ensemble import Ensemble, create_ensemble, find_results, open_ensemble
from abaw.evaluate.postprocessing.postprocess import Postprocess
from abaw.evaluate.postprocessing.smoothing import Smoothing
from abaw.evaluate.postprocessing.tuning import Tuning
from abaw.evaluate.predictions import VideoPrediction, load_predictions
from abaw.evaluate.submission.sample_files import read_sample
from abaw.evaluate.trained import TrainedRun, open_predictor
from abaw.store import FeatureStore
from abaw.train.config import make_config
from abaw.train.runs import Run, open_run

pytestmark = pytest.mark.usefixtures("one_thread")

SMOOTHED = Postprocess(smoothing=dict.fromkeys(VA.outputs, Smoothing(kind="box", width=41)))
RARE = Postprocess(thresholds=dict.fromkeys(ACTION_UNITS, 0.9))


@pytest.fixture(scope="module")
def trained(lab, linear_store, tmp_path_factory) -> Path:
    """Runs `va-1`, `va-2`, `au-1` and `au-2` of which the first of each task is post-processed, with predictions."""
    runs = tmp_path_factory.mktemp("raw")
    for task, head, option, post in (
        ("va", "ridge", "alpha=1", SMOOTHED),
        ("au", "logistic", "inverse_penalty=0.01", RARE),
    ):
        for number, settings in ((1, ()), (2, (f"head.{option}",))):
            config = make_config({"task": task, "features": ("f",), "head": {"name": head}}, settings)
            run = lab.start(linear_store, runs, config, f"{task}-{number}")
            lab.train(run, linear_store)
            pipeline.evaluate(open_predictor(run.folder, "cpu"), linear_store)
            if number == 1:
                put_tuning(run, post)
    return runs


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def put_tuning(run: Run, post: Postprocess) -> None:
    """Keep a post-processing in a run, as one that was fitted on other videos."""
    tuning = Tuning(
        abaw="test",
        task=run.config.task,
        weights=run.digest(),
        postprocess=post,
        fit_on="train",
        runs=(),
        videos=("v0",),
        n_frames=1,
        score_before=0.1,
        score_after=0.2,
    )
    save_json(run.folder / "postprocess.json", tuning.model_dump(mode="json"))


def make(runs: Path, task: str, raw: bool, weights: tuple[float, float] = (1, 3)) -> Ensemble:
    members = [open_run(runs / f"{task}-{number}") for number in (1, 2)]
    made, _ = create_ensemble(runs, members, weights, name=f"{task}-{'raw' if raw else 'usual'}", raw=raw)
    return made


def outputs_of(runs: Path, name: str) -> np.ndarray:
    """(rows, outputs) of all validation videos as they are kept, one after another."""
    found = load_predictions(runs / name / "predictions-val.h5")
    return np.concatenate([found[video].outputs for video in sorted(found)])


def box(values: np.ndarray, width: int) -> np.ndarray:
    """Running means of each video's rows, cut off at its ends."""
    half, found = width // 2, np.empty_like(values)
    for start in range(0, len(values), 120):
        video = values[start : start + 120]
        for row in range(120):
            found[start + row] = video[max(0, row - half) : row + half + 1].mean(axis=0)
    return found


def submitted(answering: Run | Ensemble, store: FeatureStore, folder: Path, task: str, raw: bool = False) -> np.ndarray:
    """(rows, columns) of a submission file for the validation videos."""
    columns = "valence,arousal" if task == "va" else ",".join(ACTION_UNITS)
    commas = "," * (1 if task == "va" else 12)
    images = [f"{video}/{frame:05}.jpg{commas}" for video in ("v4", "v5") for frame in range(1, 121)]
    sample, out = folder / "sample.txt", folder / f"{answering.name}-{len(list(folder.iterdir()))}.txt"
    sample.write_text("\n".join([f"image_location,{columns}", *images]) + "\n")
    written = pipeline.submit(open_predictor(answering.folder, "cpu", raw), store, read_sample(sample), out)
    assert written.n_rows == 240
    return np.loadtxt(out, delimiter=",", skiprows=1, usecols=range(1, columns.count(",") + 2))


def test_a_raw_ensemble_is_submitted_raw(runs, linear_store, tmp_path):
    """By hand: a quarter of the first run as its head gives it, not smoothed, and three of the second."""
    one, two = (outputs_of(runs, f"va-{number}") for number in (1, 2))
    raw = np.clip(one / 4 + two * 3 / 4, -1, 1)
    usual = np.clip(box(one, 41) / 4 + two * 3 / 4, -1, 1)
    assert np.abs(raw - usual).max() > 0.05, "else nothing can be told"
    for is_raw, wanted in ((True, raw), (False, usual)):
        made = make(runs, "va", is_raw)
        found = submitted(made, linear_store, tmp_path, "va")
        np.testing.assert_allclose(found, wanted, atol=3e-6)
        np.testing.assert_allclose(
            submitted(open_ensemble(made.folder), linear_store, tmp_path, "va"), wanted, atol=3e-6
        )
    found = submitted(made, linear_store, tmp_path, "va", raw=True)
    np.testing.assert_allclose(found, raw, atol=3e-6, err_msg="an ensemble that is not raw, submitted with --raw")


def test_a_raw_ensemble_of_action_units_is_submitted_without_thresholds(runs, linear_store, tmp_path):
    """By hand from the logits: a unit is on where the mean probability is above one half, or by the member's threshold."""
    chances = [1 / (1 + np.exp(-outputs_of(runs, f"au-{number}").astype(np.float64))) for number in (1, 2)]
    # a threshold of .9 moves the logit by log(9)
    moved = chances[0] / 9 / (chances[0] / 9 + 1 - chances[0])
    for is_raw, first in ((True, chances[0]), (False, moved)):
        mean = first / 4 + chances[1] * 3 / 4
        clear = np.abs(mean - 0.5) > 1e-4
        found = submitted(make(runs, "au", is_raw), linear_store, tmp_path, "au")
        assert np.array_equal(found[clear], (mean > 0.5)[clear])
        assert clear.mean() > 0.9
    assert ((moved / 4 + chances[1] * 3 / 4 > 0.5) != (chances[0] / 4 + chances[1] * 3 / 4 > 0.5)).any()


@pytest.mark.parametrize("command", ["abaw ensemble", "abaw eval"])
@pytest.mark.parametrize("is_raw", [True, False])
def test_scores_and_kept_predictions_are_of_what_would_be_submitted(runs, linear_store, tmp_path, command, is_raw):
    made = make(runs, "va", is_raw)
    if command == "abaw eval":
        (made.folder / "predictions-val.h5").unlink()
        evaluation = pipeline.evaluate(open_predictor(made.folder, "cpu"), linear_store)
        assert (
            json.loads((made.folder / "scores-val.json").read_text())["official"]["score"] == evaluation.official.score
        )
    assert set(find_results(runs, made.name, "val").predictions) == {"v4", "v5"}, "or it says that it is out of date"
    kept = np.clip(outputs_of(runs, made.name), -1, 1)
    np.testing.assert_allclose(kept, submitted(made, linear_store, tmp_path, "va"), atol=3e-6)


def test_a_run_is_submitted_with_its_post_processing_unless_raw(runs, linear_store, tmp_path):
    run, bare = open_run(runs / "va-1"), outputs_of(runs, "va-1")
    found = submitted(run, linear_store, tmp_path, "va")
    np.testing.assert_allclose(found, np.clip(box(bare, 41), -1, 1), atol=3e-6)
    np.testing.assert_allclose(submitted(run, linear_store, tmp_path, "va", raw=True), np.clip(bare, -1, 1), atol=3e-6)


@pytest.mark.parametrize("weights", [(3, 1), (0.1, 0.9)])
def test_weights_are_those_of_the_members_in_their_order(runs, linear_store, tmp_path, weights):
    made = make(runs, "va", True, weights)
    share = weights[0] / sum(weights)
    assert made.weights == pytest.approx((share, 1 - share))
    one, two = (outputs_of(runs, f"va-{number}") for number in (1, 2))
    wanted = np.clip(share * one + (1 - share) * two, -1, 1)
    np.testing.assert_allclose(submitted(made, linear_store, tmp_path, "va"), wanted, atol=3e-6)
    np.testing.assert_allclose(np.clip(outputs_of(runs, made.name), -1, 1), wanted, atol=3e-6)


def test_a_video_that_some_runs_lack_is_weighted_by_those_that_have_it():
    """Weights 1, 2 and 5 over the values 1, 10 and 100: all of them, the last two, and the last one."""
    runs = [dict.fromkeys(videos, constant(value)) for videos, value in (("a", 1), ("ab", 10), ("abc", 100))]
    found = combine(VA, runs, (1, 2, 5))
    means = {video: float(one.outputs.mean()) for video, one in found.items()}
    assert means == pytest.approx({"a": 521 / 8, "b": 520 / 7, "c": 100})


def constant(value: float) -> VideoPrediction:
    return VideoPrediction(
        np.full((3, 2), value, np.float32), np.zeros((3, 2), np.float32), np.ones(3, dtype=np.bool_), 25.0
    )


def test_a_raw_ensemble_does_not_mind_the_tuning_of_its_members(runs):
    """What was kept stays in force; of an ensemble that is not raw it does not."""
    for is_raw in (True, False):
        make(runs, "va", is_raw)
    put_tuning(open_run(runs / "va-2"), SMOOTHED)
    assert set(find_results(runs, "va-raw", "val").predictions) == {"v4", "v5"}
    with pytest.raises(pipeline.AbawError, match=r"va-usual has changed since its predictions-val\.h5 was written"):
        find_results(runs, "va-usual", "val")


def test_raw_and_usual_are_not_the_same_ensemble(runs):
    make(runs, "va", False)
    members = [open_run(runs / f"va-{number}") for number in (1, 2)]
    for weights, raw in (((1, 3), True), ((3, 1), False)):
        with pytest.raises(pipeline.AbawError, match="already exists and is not this ensemble"):
            create_ensemble(runs, members, weights, name="va-usual", raw=raw)


def test_raw_is_kept_in_the_file(runs):
    for is_raw in (True, False):
        made = make(runs, "va", is_raw)
        assert json.loads((made.folder / "ensemble.json").read_text())["raw"] is is_raw
        assert open_ensemble(made.folder).raw is is_raw


def test_smoothing_in_the_place_of_a_tuning_and_raw_are_what_they_say(runs, linear_store):
    """Scores of one run three ways: after its tuning, after another smoothing, and bare."""
    run = open_run(runs / "va-1")
    by_tuning, bare = (pipeline.evaluate(TrainedRun.open(run, "cpu", raw), linear_store) for raw in (False, True))
    by_hand = pipeline.evaluate(TrainedRun.open(run, "cpu"), linear_store, smoothing="median:5")
    assert bare.postprocessed is None
    assert by_tuning.postprocessed.postprocess == SMOOTHED
    assert by_hand.postprocessed.postprocess.smoothing["valence"] == Smoothing(kind="median", width=5)
    scores = [by_tuning.postprocessed.official.score, by_hand.postprocessed.official.score, bare.official.score]
    assert len(set(scores)) == 3
    assert by_tuning.official == by_hand.official == bare.official


def test_thresholds_of_a_tuning_reach_the_scores(runs, linear_store):
    """F1 by hand with a threshold of nine tenths."""
    found = pipeline.evaluate(open_predictor(runs / "au-1", "cpu"), linear_store)
    chances = 1 / (1 + np.exp(-outputs_of(runs, "au-1").astype(np.float64)))
    labels = np.concatenate([linear_store.read_labels("au", video).rows for video in ("v4", "v5")])
    for scores, threshold in ((found.official, 0.5), (found.postprocessed.official, 0.9)):
        on = chances > threshold
        f1 = 2 * (on & (labels == 1)).sum(axis=0) / (on.sum(axis=0) + (labels == 1).sum(axis=0))
        assert list(scores.parts.values()) == pytest.approx(f1.tolist(), abs=1e-3)
    assert list(found.official.parts) == list(AU.outputs)
