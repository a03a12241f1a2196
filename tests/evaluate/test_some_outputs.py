"""Runs of some outputs of a task: trained, scored, tuned and listed on these alone, and joined to all of it by an ensemble."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from abaw import pipeline
from abaw.core.errors import UsageError
from abaw.core.tasks import AU, EXPR, VA, get_task
from abaw.evaluate.compare import compare_runs
from abaw.evaluate.ensemble import create_ensemble
from abaw.evaluate.predictions import load_predictions
from abaw.evaluate.run_summaries import rank_for_submission, summarise_runs
from abaw.evaluate.submission.sample_files import read_sample
from abaw.evaluate.trained import Selection, open_predictor
from abaw.train.config import make_config
from abaw.train.runs import open_run

pytestmark = pytest.mark.usefixtures("one_thread")

OUTPUTS = {
    **{"both": (), "valence": ("outputs=valence",), "arousal": ("outputs=arousal",)},
    "weak": ("outputs=valence", "head.alpha=100"),
}


@pytest.fixture(scope="module")
def runs(lab, linear_store, tmp_path_factory) -> Path:
    """Evaluated ridge runs of both outputs and of each alone, and a weak one of valence. Ridge solves every output by itself."""
    folder = tmp_path_factory.mktemp("outputs")
    for name, settings in OUTPUTS.items():
        run = lab.start(linear_store, folder, lab.config("va", *settings, head="ridge"), name)
        lab.train(run, linear_store)
        pipeline.evaluate(open_predictor(run.folder, "cpu"), linear_store)
    return folder


def predictions_of(runs: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Outputs and labels of all validation rows."""
    predictions = load_predictions(runs / name / "predictions-val.h5")
    return tuple(
        np.concatenate([getattr(predictions[v], kind) for v in ("v4", "v5")]) for kind in ("outputs", "labels")
    )


def ccc(x: np.ndarray, y: np.ndarray) -> float:
    """Lin's coefficient of outputs that are clipped to the range of labels."""
    x = x.clip(-1, 1)
    return float(2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2))


@pytest.mark.parametrize(("number", "name"), [(0, "valence"), (1, "arousal")])
def test_an_output_alone_is_trained_and_scored_as_it_is_among_others(runs: Path, number: int, name: str) -> None:
    both, labels = predictions_of(runs, "both")
    alone, own_labels = predictions_of(runs, name)
    np.testing.assert_allclose(alone, both[:, number : number + 1], atol=1e-5)
    assert np.array_equal(own_labels, labels[:, number : number + 1])
    scores = json.loads((runs / name / "scores-val.json").read_text())
    assert scores["official"]["score"] == pytest.approx(ccc(both[:, number], labels[:, number]), abs=1e-5)
    assert open_run(runs / name).task.measure.name == f"CCC {name}"
    with h5py.File(runs / name / "predictions-val.h5") as file:
        assert (file.attrs["task"], list(file.attrs["outputs"])) == (f"va:{name}", [name])


def test_an_output_alone_is_trained_by_the_loop_too(lab, linear_store, tmp_path: Path) -> None:
    """`metrics.jsonl` has no measure of the other output, and the head has a single one."""
    run = lab.start(linear_store, tmp_path, lab.config("va", "outputs=arousal", "epochs=2", head="linear"))
    lab.train(run, linear_store)
    rows = lab.metrics(run.folder)
    assert all(row["score"] == pytest.approx(row["CCC arousal"]) and "CCC valence" not in row for row in rows)
    tensors, _ = lab.tensors(run.folder / "best.safetensors")
    assert tensors["heads.0.output.weight"].shape == (1, lab.width)
    assert "va:arousal from f, head linear" in repr(run)


def test_an_ensemble_joins_the_outputs_of_its_runs(runs: Path, linear_store) -> None:
    """Valence of one run and arousal of another; or an output's weighted mean over the runs that have it."""
    both, labels = predictions_of(runs, "both")
    members = [open_run(runs / name) for name in ("arousal", "valence")]
    ensemble, evaluation = create_ensemble(runs, members, name="joined")
    assert ensemble.task == VA and ensemble.runs() == members
    assert evaluation.official.score == pytest.approx(
        np.mean([ccc(both[:, i], labels[:, i]) for i in (0, 1)]), abs=1e-5
    )
    np.testing.assert_allclose(predictions_of(runs, "joined")[0], both, atol=1e-5)

    partial, _ = create_ensemble(runs, [open_run(runs / name) for name in ("both", "valence")], [1, 3], name="partial")
    outputs = open_predictor(partial.folder, "cpu").predict(linear_store, Selection("val"))
    valence = both[:120, 0] / 4 + predictions_of(runs, "valence")[0][:120, 0] * 3 / 4
    np.testing.assert_allclose(outputs["v4"].outputs, np.stack([valence, both[:120, 1]], axis=1), atol=1e-5)


def test_weights_count_among_the_runs_that_have_an_output(runs: Path) -> None:
    """Two runs of valence that differ, and one of arousal."""
    members = [open_run(runs / name) for name in ("valence", "weak", "arousal")]
    create_ensemble(runs, members, [3, 1, 5], name="weighted")
    outputs, labels = predictions_of(runs, "weighted")
    valence = predictions_of(runs, "valence")[0] * 0.75 + predictions_of(runs, "weak")[0] * 0.25
    np.testing.assert_allclose(
        outputs, np.concatenate([valence, predictions_of(runs, "arousal")[0]], axis=1), atol=1e-5
    )
    assert np.array_equal(labels, predictions_of(runs, "both")[1])


def test_weights_of_outputs_hold_for_runs_of_one_output_too(runs: Path) -> None:
    """Valence from the run of both outputs alone; arousal from both runs that have it, one to one."""
    names = ["both", "weak", "arousal"]
    _, evaluation = pipeline.create_ensemble(runs, names, output_weights=["weak:valence=0"], name="chosen")
    both, arousal = predictions_of(runs, "both")[0], predictions_of(runs, "arousal")[0]
    outputs = np.concatenate([prediction.outputs for prediction in evaluation.predictions.values()])
    expected = np.stack([both[:, 0], (both[:, 1] + arousal[:, 0]) / 2], axis=1)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)


def test_a_submission_wants_all_outputs(runs: Path, linear_store, tmp_path: Path) -> None:
    sample = tmp_path / "sample.txt"
    sample.write_text("image_location,valence,arousal\nv4/00001.jpg,,\n")
    with pytest.raises(
        UsageError, match=r"predicts valence alone, .* task va need all of its outputs\. .*`abaw ensemble`"
    ):
        pipeline.submit(
            open_predictor(runs / "valence", "cpu"), linear_store, read_sample(sample), tmp_path / "out.txt"
        )
    create_ensemble(runs, [open_run(runs / name) for name in ("arousal", "valence")], name="joined-for-submission")
    predictor = open_predictor(runs / "joined-for-submission", "cpu")
    assert pipeline.submit(predictor, linear_store, read_sample(sample), tmp_path / "out.txt").n_rows == 1
    valence, arousal = (float(text) for text in (tmp_path / "out.txt").read_text().split()[1].split(",")[1:])
    assert [valence, arousal] == pytest.approx(predictions_of(runs, "both")[0][0].tolist(), abs=1e-5)


def test_runs_of_an_output_are_listed_and_compared_by_themselves(runs: Path) -> None:
    summaries, _ = summarise_runs(runs)
    tasks = {summary.name: summary.task for summary in summaries}
    assert (tasks["both"], tasks["valence"]) == ("va", "va:valence")
    assert "valence" not in {summary.name for summary in rank_for_submission(summaries, "va")}
    by_both = compare_runs(runs, ("both", "valence"))
    assert {result.task.name for result in by_both.results} == {"va:valence"}
    with pytest.raises(UsageError, match=r"valence is of task va:valence, arousal of va:arousal"):
        compare_runs(runs, ("valence", "arousal"))


def test_an_output_alone_is_tuned(runs: Path, linear_store) -> None:
    tuning = pipeline.tune(open_run(runs / "arousal"), linear_store, "train", runs, "cpu")
    assert tuning.task == "va:arousal"
    pipeline.evaluate(open_predictor(runs / "arousal", "cpu"), linear_store)


def test_selections_of_outputs() -> None:
    assert get_task("va:arousal") == VA.only(["arousal"]) and VA.only(VA.outputs) is VA
    units = AU.only(["AU1", "AU4", "AU26"])
    assert (units.name, units.columns, units.taken) == ("au:AU1+AU4+AU26", ("AU1", "AU4", "AU26"), (0, 2, 11))
    assert units.only(["AU4", "AU26"]) == AU.only(["AU4", "AU26"])
    for task, outputs in ((VA, ["valance"]), (VA, ["arousal", "valence"]), (VA, ["valence", "valence"]), (VA, [])):
        with pytest.raises(UsageError, match="outputs must be some of valence,arousal, in this order"):
            task.only(outputs)
    with pytest.raises(UsageError, match="The outputs of task expr belong together"):
        EXPR.only(["Anger"])


@pytest.mark.parametrize(
    ("task", "outputs", "words"),
    [
        ("va", "valence,arousal", "outputs are all of task va: leave it out"),
        ("va", "valance", "outputs must be some of valence,arousal"),
        ("va:valence", "", "task va:valence is task va with the option outputs=valence"),
        ("expr", "Anger", "belong together"),
    ],
)
def test_wrong_outputs_are_refused_by_the_config(task: str, outputs: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        make_config({"task": task, "features": ("f",)}, [f"outputs={outputs}"])
