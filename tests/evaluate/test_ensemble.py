"""Ensembles: means by hand, pooling of folds, what is refused, and `abaw ensemble` on runs of the tiny demo."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from scipy.special import expit, softmax

from abaw.cli import main
from abaw.core.claim_files import Claim
from abaw.core.errors import CheckpointError, UsageError
from abaw.core.tasks import TASKS
from abaw.evaluate.combining import combine
from abaw.evaluate.ensemble import digest_of, find_results, open_ensemble, select_runs
from abaw.evaluate.output_weights import describe_outputs, weigh_outputs
from abaw.evaluate.predictions import VideoPrediction, load_predictions, read_store
from abaw.evaluate.scores.bootstrap import interval, measures
from abaw.evaluate.scores.metrics import decide, score
from abaw.tests.support.command_line import assert_refused

VA, EXPR, AU, MTL = (TASKS[name] for name in ("va", "expr", "au", "mtl"))


def video(outputs, labels, present=None, fps: float = 25.0) -> VideoPrediction:
    present = np.ones(len(labels), bool) if present is None else np.array(present)
    return VideoPrediction(np.array(outputs, np.float32), np.array(labels, np.float32), present, fps)


# means


def test_valence_and_arousal_are_averaged_by_hand() -> None:
    labels = [[0, 0], [-5, 0.5]]
    runs = [{"a": video([[0.2, -0.4], [1, 0]], labels)}, {"a": video([[0.5, 0.2], [0.4, 0.6]], labels)}]
    np.testing.assert_allclose(combine(VA, runs)["a"].outputs, [[0.35, -0.1], [0.7, 0.3]], rtol=1e-6)
    np.testing.assert_allclose(combine(VA, runs, [2, 1])["a"].outputs, [[0.3, -0.2], [0.8, 0.2]], rtol=1e-6, atol=1e-7)
    np.testing.assert_array_equal(combine(VA, runs, [20, 10])["a"].outputs, combine(VA, runs, [2, 1])["a"].outputs)
    np.testing.assert_array_equal(combine(VA, runs)["a"].labels, np.array(labels, np.float32))


def test_classes_are_averaged_as_probabilities() -> None:
    """One sure run outweighs two that lean the other way a little; the mean of the answers would not see that."""
    rng = np.random.default_rng(0)
    labels = np.zeros((50, 1))
    outputs = rng.normal(0, 3, (3, 50, 8))
    found = combine(EXPR, [{"a": video(one, labels)} for one in outputs], [3, 1, 1])["a"].outputs
    wanted = (softmax(outputs.astype(np.float32), axis=2) * np.array([0.6, 0.2, 0.2])[:, None, None]).sum(axis=0)
    np.testing.assert_allclose(np.exp(found), wanted, atol=1e-6)
    np.testing.assert_array_equal(decide(EXPR, found)[:, 0], wanted.argmax(axis=1))


def test_action_units_are_averaged_as_probabilities() -> None:
    rng = np.random.default_rng(0)
    labels, outputs = np.zeros((50, 12)), rng.normal(0, 3, (2, 50, 12))
    found = combine(AU, [{"a": video(one, labels)} for one in outputs], [1, 3])["a"].outputs
    wanted = 0.25 * expit(outputs[0]) + 0.75 * expit(outputs[1])
    np.testing.assert_allclose(expit(found), wanted, atol=1e-6)
    np.testing.assert_array_equal(decide(AU, found), wanted > 0.5)


def test_parts_of_mtl_are_averaged_each_in_its_way() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((5, 15))
    runs = [rng.normal(size=(5, 22)) for _ in range(2)]
    found = combine(MTL, [{"a": video(one, labels)} for one in runs])["a"].outputs
    for part, given, wanted in MTL.each():
        alone = combine(part, [{"a": video(one[:, given], labels[:, wanted])} for one in runs])["a"].outputs
        np.testing.assert_array_equal(found[:, given], alone)


@pytest.mark.filterwarnings("error")
def test_sure_answers_stay_finite() -> None:
    for task, width in ((EXPR, 1), (AU, 12)):
        sure = np.full((3, len(task.outputs)), -1000.0)
        sure[:, 0] = 1000
        runs = [{"a": video(sure, np.zeros((3, width)))}, {"a": video(2 * sure, np.zeros((3, width)))}]
        found = combine(task, runs)["a"].outputs
        assert np.isfinite(found).all()
        np.testing.assert_array_equal(decide(task, found), decide(task, sure))


def test_a_row_is_present_where_all_runs_have_it() -> None:
    runs = [
        {"a": video([[0, 0]] * 3, [[0, 0]] * 3, [True, True, False])},
        {"a": video([[0, 0]] * 3, [[0, 0]] * 3, [True, False, True], fps=0)},
    ]
    found = combine(VA, runs)["a"]
    assert (found.present.tolist(), found.fps) == ([True, False, False], 25.0)


def test_rows_after_the_end_of_one_run_take_its_last_output() -> None:
    """Features differ in length; rows beyond the last label are not labelled in either."""
    short, long = video([[0.2, 0.2]], [[0, 0]]), video([[0.4, 0.4], [0.6, 0.8]], [[0, 0], [-5, -5]])
    for runs in ([{"a": short}, {"a": long}], [{"a": long}, {"a": short}]):
        found = combine(VA, runs)["a"]
        np.testing.assert_allclose(found.outputs, [[0.3, 0.3], [0.4, 0.5]], rtol=1e-6)
        assert found.labels.tolist() == [[0, 0], [-5, -5]]
        assert found.present.tolist() == [True, False]


def test_videos_of_one_run_only_are_pooled() -> None:
    def runs_of(*groups: str) -> list[dict[str, VideoPrediction]]:
        return [
            {name: video([[0.1 * (i + 1)] * 2] * 2, [[0, 0]] * 2) for name in group} for i, group in enumerate(groups)
        ]

    found = combine(VA, runs_of("ab", "bc"), [1, 3])
    assert list(found) == ["a", "b", "c"]
    assert [float(found[name].outputs[0, 0]) for name in "abc"] == pytest.approx([0.1, 0.25 * 0.1 + 0.75 * 0.2, 0.2])


def test_other_labels_are_refused() -> None:
    runs = [{"a": video([[0, 0]], [[0, 0.5]])}, {"a": video([[0, 0]], [[0, 0.25]])}]
    with pytest.raises(UsageError, match="different labels for a"):
        combine(VA, runs)


def test_outputs_with_weights_of_their_own_by_hand() -> None:
    labels = [[0, 0], [-5, 0.5]]
    runs = [{"a": video([[0.2, -0.4], [1, 0]], labels)}, {"a": video([[0.5, 0.2], [0.4, 0.6]], labels)}]
    found = combine(VA, runs, [1, 1], {"valence": (0.25, 0.75)})["a"].outputs
    np.testing.assert_allclose(found, [[0.425, -0.1], [0.55, 0.3]], rtol=1e-6)
    rng = np.random.default_rng(0)
    many = [{"a": video(one, np.zeros((5, 15)))} for one in rng.normal(0, 3, (3, 5, 22))]
    by_output = weigh_outputs(MTL, "xyz", [1, 1, 1], [("va", "x"), ("expr", "y"), ("", "z")], ["z:AU1=0", "x:AU1=3"])
    mixed = combine(MTL, many, [1, 1, 1], by_output)["a"].outputs
    outputs = [one["a"].outputs for one in many]
    np.testing.assert_allclose(mixed[:, :2], (outputs[0] + outputs[2])[:, :2] / 2, rtol=1e-5)
    expected = (softmax(outputs[1][:, 2:10], axis=1) + softmax(outputs[2][:, 2:10], axis=1)) / 2
    np.testing.assert_allclose(softmax(mixed[:, 2:10], axis=1), expected, rtol=1e-5)
    np.testing.assert_allclose(mixed[:, 10], outputs[0][:, 10], rtol=1e-4)  # AU1
    np.testing.assert_allclose(mixed[:, 11:], outputs[2][:, 11:], rtol=1e-4)
    assert weigh_outputs(MTL, "xy", [1, 2]) == weigh_outputs(MTL, "xy", [1, 2], [("", "x"), ("", "y")]) == {}
    both = weigh_outputs(MTL, "xy", [1, 1], [("va", "x"), ("", "x"), ("", "y")])
    assert both == {}  # x is named for all outputs, too
    pooled = combine(VA, [runs[0], {"b": runs[1]["a"]}], [1, 1], {"valence": (0.25, 0.75)})
    np.testing.assert_array_equal(pooled["a"].outputs, runs[0]["a"].outputs)
    assert len({digest_of([("x", None), ("y", None)], (0.5, 0.5), one) for one in (None, {"valence": (0.0, 1.0)})}) == 2
    assert describe_outputs(MTL, "xyz", by_output) == (
        "va: x (0.5), z (0.5); expr: y (0.5), z (0.5); AU1: x (1); AU2, AU4, AU6, AU7, AU10, AU12, AU15, AU23, AU24, AU25, "
        "AU26: z (1)"
    )
    only_b = [{"b": runs[0]["a"]}, {"a": runs[1]["a"]}]
    with pytest.raises(UsageError, match="No run that counts for valence has predicted b"):
        combine(VA, only_b, [1, 1], {"valence": (0.0, 1.0)})


# the command


@pytest.fixture(scope="module")
def trained(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of the tiny demo with predictions: two of va, one of each of two folds, and one of au."""
    from click.testing import CliRunner

    runs = tmp_path_factory.mktemp("ensemble") / "runs"
    places = ("--store", tiny_store, "--runs", runs, "--device", "cpu")
    for name, options in (
        ("va-one", ()),
        ("va-two", ("--set", "head.alpha=10")),
        ("fold-1", ("--fold", "1/2")),
        ("fold-2", ("--fold", "2/2")),
        ("au-one", ("--task", "au", "--head", "logistic")),
    ):
        train = ("train", "--task", "va", "--head", "ridge", "--run", name, *options, *places)
        for command in (train, ("eval", name, "--data", runs / "none", *places)):
            result = CliRunner().invoke(main, [str(word) for word in command], catch_exceptions=False)
            assert result.exit_code == 0, result.output
    return runs


@pytest.fixture
def runs(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "runs"))


def test_mean_of_two_runs_is_kept_and_scored(run_cli, runs: Path) -> None:
    result = run_cli("ensemble", "va-one", "va-two", "--weights", "1,3", "--runs", runs, "--json")
    assert result.exit_code == 0, result.output
    one, two, both = (
        load_predictions(runs / name / "predictions-val.h5") for name in ("va-one", "va-two", "va-ensemble-1")
    )
    for name, found in both.items():
        np.testing.assert_allclose(found.outputs, 0.25 * one[name].outputs + 0.75 * two[name].outputs, atol=1e-6)
        np.testing.assert_array_equal(found.labels, one[name].labels)
    outputs, labels = (np.concatenate([getattr(v, name) for v in both.values()]) for name in ("outputs", "labels"))
    printed = json.loads(result.stdout)
    assert printed["official"]["score"] == pytest.approx(score(VA, outputs, labels).score)
    assert printed["members"] == ["va-one", "va-two"]
    assert json.loads((runs / "va-ensemble-1" / "scores-val.json").read_text())["official"] == printed["official"]
    with Image.open(runs / "va-ensemble-1" / "traces-val.png") as picture:
        assert len(np.unique(np.asarray(picture.convert("L")))) > 10
    stores = {read_store(runs / name / "predictions-val.h5") for name in ("va-one", "va-ensemble-1")}
    assert len(stores) == 1 and stores != {""}
    files = {path.name for path in (runs / "va-ensemble-1").iterdir()}
    assert files == {"ensemble.json", "predictions-val.h5", "scores-val.json", "traces-val.png"}


def test_folds_are_pooled(run_cli, runs: Path) -> None:
    """Every video of the dataset, each as the fold that did not train on it has it."""
    result = run_cli("ensemble", "fold-*", "--run", "pooled", "--runs", runs)
    assert result.exit_code == 0, result.output
    first, second, pooled = (
        load_predictions(runs / name / "predictions-val.h5") for name in ("fold-1", "fold-2", "pooled")
    )
    assert not first.keys() & second.keys()
    assert pooled.keys() == first.keys() | second.keys()
    for name, found in pooled.items():
        np.testing.assert_array_equal(found.outputs, (first | second)[name].outputs)
    assert f"Averaged: {len(pooled)} videos over 1 run. The runs have different videos" in result.stdout
    assert "fold-1 (0.5), fold-2 (0.5)" in result.stdout


def test_outputs_of_different_runs_are_joined(run_cli, runs: Path, tiny_store: Path) -> None:
    words = ("ensemble", "valence=va-one", "arousal=va-two", "--weight", "va-two:valence=3", "--run", "parts")
    result = run_cli(*words, "--runs", runs)
    assert result.exit_code == 0, result.output
    one, two, both = (load_predictions(runs / name / "predictions-val.h5") for name in ("va-one", "va-two", "parts"))
    for name, found in both.items():
        valence = 0.25 * one[name].outputs[:, 0] + 0.75 * two[name].outputs[:, 0]
        np.testing.assert_allclose(found.outputs[:, 0], valence, atol=1e-6)
        np.testing.assert_array_equal(found.outputs[:, 1], two[name].outputs[:, 1])
    shown = " ".join(result.stdout.split())
    assert "Other weights of outputs: valence: va-one (0.25), va-two (0.75); arousal: va-two (1)." in shown
    again = run_cli("eval", "parts", "--json", "--runs", runs, "--store", tiny_store, "--device", "cpu")
    assert json.loads(again.stdout)["weights_by_output"] == {"valence": [0.25, 0.75], "arousal": [0.0, 1.0]}
    for name, found in load_predictions(runs / "parts" / "predictions-val.h5").items():
        np.testing.assert_allclose(found.outputs, both[name].outputs, atol=1e-5)
    assert_refused(run_cli(*words[:-4], "--run", "parts", "--runs", runs), 2, "already exists and is not this ensemble")


def test_output_says_how_many_runs_answer_a_video(run_cli, runs: Path) -> None:
    result = run_cli("ensemble", "va-one", "va-two", "--runs", runs)
    n = len(load_predictions(runs / "va-one" / "predictions-val.h5"))
    assert f"Averaged: {n} videos over 2 runs.\n" in result.stdout
    mixed = run_cli("ensemble", "va-one", "fold-1", "fold-2", "--runs", runs).stdout
    assert f"{n} videos over 2 runs, " in mixed


def test_ensemble_can_be_opened_and_its_members_found(run_cli, runs: Path) -> None:
    run_cli("ensemble", "va-one", "va-two", "--weights", "1,3", "--run", "both", "--runs", runs)
    found = open_ensemble(runs / "both")
    assert (found.task, found.weights, found.raw) == (VA, (0.25, 0.75), False)
    assert [run.name for run in found.runs()] == ["va-one", "va-two"]
    results = find_results(runs, "both", "val")
    wanted = combine(VA, [find_results(runs, name, "val").predictions for name in found.members], found.weights)
    assert results.predictions.keys() == wanted.keys()
    for name, one in results.predictions.items():
        np.testing.assert_array_equal(one.outputs, wanted[name].outputs)
    with pytest.raises(
        UsageError, match=r"both has no predictions-train\.h5\. Create it with `abaw eval both --split train`"
    ):
        find_results(runs, "both", "train")


def test_ensembles_are_listed_if_no_run_is_found(run_cli, runs: Path) -> None:
    run_cli("ensemble", "va-one", "va-two", "--run", "both", "--runs", runs)
    members, every = "au-one, fold-1, fold-2, va-one, va-two", "au-one, both, fold-1, fold-2, va-one, va-two"
    for command in (("eval", "x"), ("compare", "x", "both"), ("report", "x")):
        assert_refused(run_cli(*command, "--runs", runs), 2, f"No run 'x' in {runs}; available: {every}.")
    for command in (("ensemble", "x", "va-one"), ("tune", "x")):
        assert_refused(run_cli(*command, "--runs", runs), 2, f"No run 'x' in {runs}; available: {members}.")
    for command in (("tune", "both"), ("export", "both")):
        assert_refused(run_cli(*command, "--runs", runs), 2, "both is an ensemble. Name one of its runs; ")


def test_table_has_the_interval_next_to_its_score(run_cli, runs: Path, tiny_store: Path) -> None:
    """The official score is that of the raw predictions, whatever stands beside it."""
    places = ("--store", tiny_store, "--runs", runs, "--device", "cpu", "--data", runs / "none")
    words = ("eval", "va-one", "--split", "train", "--smooth", "box:51", *places)
    post, shown = json.loads(run_cli(*words, "--json").stdout)["postprocessed"]["official"], run_cli(*words).stdout
    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in shown.splitlines() if "│" in line]
    head = [line.strip("┃").split("┃") for line in shown.splitlines() if "┃" in line]
    titles = [" ".join(" ".join(words).split()) for words in zip(*head, strict=True)]
    assert titles == [
        *("", "measure", "all labelled rows (official)", "official, 95 %", "those with a crop"),
        *("all, post-processed (box:51)", "labels"),
    ]
    found = find_results(runs, "va-one", "train", raw=True).predictions
    low, high = interval(VA, found)["score"]
    score_row = next(row for row in rows if row[0] == "score")
    assert score_row[2:4] == [f"{measures(VA, found)['score']:.3f}", f"{low:.3f} to {high:.3f}"]
    assert score_row[5] == f"{post['score']:.3f}" != score_row[2]
    assert [bool(cell) for cell in rows[-1]] == [True, False, True, False, True, True, False]


def test_an_ensemble_that_was_killed_before_its_scores_is_taken_up(run_cli, runs: Path) -> None:
    words = ("ensemble", "va-one", "va-two", "--runs", runs)
    (runs / "begun").mkdir()
    assert run_cli(*words, "--run", "begun").exit_code == 0
    first, second = (runs / f"va-ensemble-{number}" for number in (1, 2))
    first.mkdir()
    shutil.copyfile(runs / "begun" / "ensemble.json", first / "ensemble.json")
    (first / "scores-val.json.1-00000000.partial").touch()  # it was killed as it wrote them
    assert run_cli(*words).exit_code == 0 and (first / "scores-val.json").is_file() and not second.exists()
    assert run_cli(*words).exit_code == 0 and (second / "scores-val.json").is_file()
    claim = second.with_name(f".{second.name}.claim")  # its process was killed before it deleted this
    claim.write_text(json.dumps(asdict(replace(Claim.make(), start="0"))) + "\n0\n")
    assert run_cli(*words).exit_code == 0 and not claim.exists() and not second.with_name("va-ensemble-3").exists()


def test_another_split_goes_into_the_same_ensemble(run_cli, runs: Path, tiny_store: Path) -> None:
    words = ("ensemble", "va-one", "va-two", "--run", "both", "--runs", runs)
    assert run_cli(*words).exit_code == 0
    assert_refused(
        run_cli(*words, "--split", "train"), 2, "va-one has no predictions-train.h5", "abaw eval va-one --split"
    )
    for name in ("va-one", "va-two"):
        run_cli("eval", name, "--split", "train", "--store", tiny_store, "--runs", runs, "--data", runs / "none")
    assert run_cli(*words, "--split", "train").exit_code == 0
    assert (runs / "both" / "predictions-train.h5").is_file()
    assert_refused(run_cli(*words, "--weights", "1,2"), 2, "already exists and is not this ensemble", "--run")
    assert_refused(
        run_cli("ensemble", "va-*", "--run", "au-one", "--runs", runs), 2, "already exists and is not this ensemble"
    )


def test_post_processing_of_the_runs_is_applied(run_cli, runs: Path, tiny_store: Path) -> None:
    result = run_cli("tune", "va-one", "--fit-on", "val", "--store", tiny_store, "--runs", runs, "--device", "cpu")
    assert result.exit_code == 0, result.output
    applied = run_cli("ensemble", "va-one", "va-two", "--run", "applied", "--runs", runs)
    assert "va-one is post-processed (fitted on val; post-processing fitted on val: optimistic)" in applied.output
    assert "Leave that out with `abaw ensemble --raw`." in applied.output
    raw = run_cli("ensemble", "va-one", "va-two", "--run", "raw", "--raw", "--runs", runs)
    assert "post-processed" not in raw.output
    found, plain = (find_results(runs, name, "val").predictions for name in ("applied", "raw"))
    halves = [find_results(runs, name, "val").predictions for name in ("va-one", "va-two")]
    for name, one in found.items():
        np.testing.assert_allclose(one.outputs, (halves[0][name].outputs + halves[1][name].outputs) / 2, atol=1e-6)
    assert any(not np.array_equal(found[name].outputs, plain[name].outputs) for name in found)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("va-one", "au-one"), "The runs have tasks au, va. An ensemble needs runs of one task."),
        (("va-one",), "at least 2 runs, found 1"),
        (("va-one", "va-o*"), "at least 2 runs, found 1"),
        (("x-*",), "No run in"),
        (("va-one", "none"), "No run 'none'"),
        (
            ("valence=va-one", "valence=va-two"),
            "No run is left for arousal of task va. Add one that is for all outputs.",
        ),
        (("valance=va-one", "va-two"), "Task va has no output 'valance'. Did you mean valence?"),
        (
            ("va-one", "va-two", "--weight", "va-one:valence"),
            "--weight needs RUN:OUTPUT=WEIGHT, such as va-1:valence=2",
        ),
        (("va-one", "va-two", "--weight", "va-one:valence=-1"), "0 or more; found 'va-one:valence=-1'"),
        (("va-one", "va-two", "--weight", "va-on:valence=1"), "run 'va-on' is not in the ensemble"),
        (("va-one", "va-two", "--weight", "va-one:va=0"), "Run va-one has no weight for any output. Leave it out."),
        (
            ("va-one@best-va", "va-two"),
            "Run va-one has no checkpoint 'best-va'; it has best. Write va-one@best, or va-one",
        ),
        (("va-one", "va-two", "--weights", "1,2,3"), "3 weights do not fit 2 runs: va-one, va-two"),
        (("va-one", "va-two", "--weights", "1,0"), "Weights must be above 0, found 1.0, 0.0"),
        (("va-one", "va-two", "--weights", "1,nan"), "Weights must be above 0"),
        (("va-one", "va-two", "--weights", "1;2"), "--weights needs numbers separated by commas"),
        (("va-one", "va-two", "--run", "../out"), "is not a valid run name"),
        (("va-one", "va-two", "--run", ""), "is not a valid run name"),
    ],
)
def test_wrong_use_is_refused(run_cli, runs: Path, words: tuple[str, ...], message: str) -> None:
    before = sorted(path.name for path in runs.iterdir())
    assert_refused(run_cli("ensemble", *words, "--runs", runs), 2, message)
    assert sorted(path.name for path in runs.iterdir()) == before


def test_ensembles_and_runs_elsewhere_are_no_members(run_cli, runs: Path, tmp_path: Path) -> None:
    run_cli("ensemble", "va-one", "va-two", "--run", "both", "--runs", runs)
    assert_refused(run_cli("ensemble", "both", "va-one", "--runs", runs), 2, "both is an ensemble")
    assert [run.name for run in select_runs(runs, ["*-one", "va-two"])] == ["au-one", "va-one", "va-two"]
    elsewhere = shutil.copytree(runs / "va-two", tmp_path / "elsewhere")
    assert_refused(run_cli("ensemble", "va-one", elsewhere, "--runs", runs), 2, "is not in", "--runs")


@pytest.mark.parametrize(
    "change",
    [
        {"members": ["../va-one", "va-two"]},
        {"members": ["/etc", "va-two"]},
        {"members": [".", "va-two"]},
        {"weights": [1.0]},
        {"weights": [float("nan"), 1.0]},
        {"task": "va2"},
        {"by_output": {"valence": [1.0]}},
        {"by_output": {"valence": [0.0, 0.0]}},
        {"by_output": {"AU1": [0.5, 0.5]}},
        {"more": 1},
    ],
)
def test_damaged_ensemble_is_refused(run_cli, runs: Path, change: dict) -> None:
    run_cli("ensemble", "va-one", "va-two", "--run", "both", "--runs", runs)
    path = runs / "both" / "ensemble.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(CheckpointError, match="is damaged"):
        open_ensemble(runs / "both")


def test_damaged_predictions_are_named(run_cli, runs: Path) -> None:
    path = runs / "va-two" / "predictions-val.h5"
    path.write_bytes(path.read_bytes()[:1000])
    assert_refused(run_cli("ensemble", "va-*", "--runs", runs), 1, "predictions-val.h5 is damaged", "abaw eval va-two")
    shutil.copy(runs / "au-one" / "predictions-val.h5", path)
    assert_refused(run_cli("ensemble", "va-*", "--runs", runs), 1, "does not fit task va", "abaw eval va-two")


def shown_by(result: Result) -> list[str]:
    """Lines on standard output but the last one, the next command, which repeats options."""
    return result.stdout.splitlines()[:-1]


def test_ensemble_is_evaluated_from_the_store(run_cli, runs: Path, tiny_store: Path) -> None:
    """To the same scores and files as by `abaw ensemble`, whatever predictions the runs have, and on any split."""
    places = ("--store", tiny_store, "--runs", runs, "--data", runs / "none", "--device", "cpu")
    words = ("ensemble", "va-one", "va-two", "--weights", "1,3", "--run", "both", "--runs", runs)
    made = run_cli(*words)
    wanted = {path.name: path.read_bytes() for path in (runs / "both").iterdir()}
    for name in wanted.keys() - {"ensemble.json"}:
        (runs / "both" / name).unlink()
    for name in ("va-one", "va-two"):
        (runs / name / "predictions-val.h5").unlink()
    result = run_cli("eval", "both", *places)
    assert (result.exit_code, shown_by(result)) == (0, shown_by(made))
    assert {path.name: path.read_bytes() for path in (runs / "both").iterdir()} == wanted
    assert not (runs / "va-one" / "predictions-val.h5").exists()
    found = json.loads(run_cli("eval", runs / "both", *places, "--split", "train", "--json").stdout)
    for name in ("va-one", "va-two"):
        assert run_cli("eval", name, *places, "--split", "train").exit_code == 0
    assert found == json.loads(run_cli(*words, "--split", "train", "--json").stdout)
    assert (found["run"], found["split"], found["members"]) == ("both", "train", ["va-one", "va-two"])


def test_ensemble_of_folds_is_evaluated_by_pooling(run_cli, runs: Path, tiny_store: Path) -> None:
    made = run_cli("ensemble", "fold-*", "--run", "pooled", "--runs", runs)
    result = run_cli(
        "eval", "pooled", "--store", tiny_store, "--runs", runs, "--data", runs / "none", "--device", "cpu"
    )
    assert (result.exit_code, shown_by(result)) == (0, shown_by(made))
    assert "over 1 run. The runs have different videos" in result.stdout


def test_ensemble_is_evaluated_with_the_post_processing_that_it_was_made_with(
    run_cli, runs: Path, tiny_store: Path
) -> None:
    places = ("--store", tiny_store, "--runs", runs, "--device", "cpu")
    assert run_cli("tune", "va-one", "--fit-on", "val", *places).exit_code == 0
    for name, raw in (("applied", ()), ("plain", ("--raw",))):
        made = run_cli("ensemble", "va-one", "va-two", "--run", name, "--runs", runs, *raw)
        result = run_cli("eval", name, *places, "--data", runs / "none")
        assert (result.exit_code, shown_by(result)) == (0, shown_by(made))
        assert ("va-one is post-processed (fitted on val" in result.output) == (name == "applied")
    for option in (("--raw",), ("--smooth", "box:5")):
        result = run_cli("eval", "applied", *option, *places)
        assert_refused(result, 2, "ensemble applied has a fixed post-processing", "abaw ensemble")


def test_member_of_another_task_is_refused(run_cli, runs: Path, tiny_store: Path) -> None:
    run_cli("ensemble", "va-one", "va-two", "--run", "both", "--runs", runs)
    shutil.rmtree(runs / "va-two")
    shutil.copytree(runs / "au-one", runs / "va-two")
    for command in (("eval", "both", "--store", tiny_store), ("report", "both")):
        assert_refused(run_cli(*command, "--runs", runs), 1, "is of task va, its run va-two of au", "abaw ensemble")
    shutil.rmtree(runs / "va-two")
    assert_refused(run_cli("eval", "both", "--store", tiny_store, "--runs", runs), 2, f"No run at {runs / 'va-two'}")


def test_an_ensemble_is_submitted_by_all_of_its_members(run_cli, runs: Path, tiny_store: Path, tmp_path: Path) -> None:
    assert run_cli("ensemble", "va-one", "va-two", "--weights", "1,3", "--run", "both", "--runs", runs).exit_code == 0
    found = load_predictions(runs / "both" / "predictions-val.h5")
    images = [f"{name}/{row + 1:05}.jpg" for name, one in found.items() for row in range(len(one.outputs))]
    sample, out = tmp_path / "sample.txt", tmp_path / "predictions.txt"
    sample.write_text("\n".join(["image_location,valence,arousal", *(f"{image}," for image in images)]) + "\n")
    result = run_cli(
        *("submit", "both", "--sample", sample, "--out", out, "--store", tiny_store, "--runs", runs, "--device", "cpu")
    )
    assert result.exit_code == 0, result.output
    assert "by both." in result.output
    written = np.loadtxt(out, delimiter=",", skiprows=1, usecols=(1, 2))
    wanted = np.concatenate([decide(VA, one.outputs) for one in found.values()])
    np.testing.assert_allclose(written, wanted, atol=2e-6)
