"""The answer of a stored classifier where it is sure: by hand, and from `abaw tune --prefer` to submission and ensembles."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from sklearn.metrics import f1_score

from abaw import pipeline
from abaw.core.errors import StoreError, UsageError
from abaw.core.tasks import EXPRESSIONS, TASKS
from abaw.evaluate.postprocessing.postprocess import FitMethod, Postprocess, fit_postprocess
from abaw.evaluate.postprocessing.postprocess_options import parse_method
from abaw.evaluate.postprocessing.preference import Preference
from abaw.evaluate.predictions import Confident, VideoPrediction, load_predictions, stack_labels
from abaw.evaluate.scores.metrics import decide
from abaw.evaluate.trained import Selection, open_predictor
from abaw.predict.input_files import PredictOptions
from abaw.predict.run_predictor import RunPredictor
from abaw.store import FeatureStore
from abaw.tests.support.command_line import assert_refused
from abaw.tests.support.stores import put_feature
from abaw.train.config import make_config
from abaw.train.runs import open_run
from abaw.workflow.recipe_plan import RecipeRun

EXPR = TASKS["expr"]
AFFECT = ("happy", "sad", "contempt")  # as classifiers name them; contempt is none of the task
PREFER = Preference(feature="g", above=0.8, fingerprint="p", classes=("Happiness", "Sadness", ""))

pytestmark = pytest.mark.usefixtures("one_thread")


def test_sure_rows_take_the_classifiers_answer_by_hand() -> None:
    outputs = np.zeros((5, 8), dtype=np.float32)
    outputs[:, 7] = 1  # the run says Other
    sure, unsure, contempt, at_limit = (0.1, 0.85, 0.05), (0.3, 0.7, 0.0), (0.02, 0.03, 0.95), (0.8, 0.1, 0.1)
    probabilities = np.array([sure, unsure, contempt, at_limit, [np.nan] * 3], dtype=np.float32)
    video = VideoPrediction(
        outputs, np.zeros((5, 1), np.float32), np.ones(5, bool), 25.0, confident=Confident("p", probabilities)
    )
    steps = Postprocess(offsets={"Fear": 50.0}, prefer=PREFER)
    found = steps.apply_to(EXPR, {"a": video})["a"].outputs
    assert np.array(EXPRESSIONS)[decide(EXPR, found)[:, 0]].tolist() == ["Sadness", "Fear", "Fear", "Fear", "Fear"]
    np.testing.assert_allclose(found[0], np.log([1e-6, 1e-6, 1e-6, 1e-6, 0.1, 0.85, 1e-6, 1e-6]), rtol=1e-5)
    np.testing.assert_array_equal(found[1:, :3], outputs[1:, :3])
    for other in (None, Confident("q", probabilities), Confident("p", probabilities[:, :2])):
        with pytest.raises(
            UsageError, match=r"are without feature 'g', which the post-processing prefers. Run `abaw eval`"
        ):
            steps.apply_to(EXPR, {"a": VideoPrediction(*[getattr(video, n) for n in ("outputs", "labels", "present")], 25.0,
                                                       confident=other)})  # fmt: skip
    # nothing else is fitted to it, and the file keeps it
    method = FitMethod(prefer=PREFER)
    assert fit_postprocess(EXPR, {"a": video}, method).prefer == PREFER
    assert Postprocess.model_validate_json(steps.model_dump_json()) == steps


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        ("expr", "g>1.5", "--prefer needs FEATURE>PROBABILITY in quotes, such as 'fer-logits>0.85'; found 'g>1.5'."),
        ("expr", "g", "found 'g'"),
        ("expr", ">0.8", "found '>0.8'"),
        ("au", "g>0.8", "--prefer is for classes of frames, which task au does not have. Leave it out."),
        ("vgaf", "g>0.8", "--prefer is for classes of frames, which task vgaf does not have."),
    ],
)
def test_mistyped_preferences_are_refused(task: str, text: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_method(TASKS[task], prefer=text)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A store of `f`, of logits `g` that are missing in some frames, and two evaluated runs on `f`."""
    folder = tmp_path_factory.mktemp("prefer")
    store, rng = FeatureStore.create(folder / "s.zarr"), np.random.default_rng(0)
    store.add_feature("f", {"shape": [4], "modality": "vision", "weights": "none"}, None, "f")
    spec = {"shape": [3], "modality": "vision", "weights": "none", "classes": list(AFFECT)}
    store.add_feature("g", spec, None, "fingerprint of g")
    for number, video in enumerate(("t1", "t2", "v1", "v2")):
        labels = rng.choice([4, 5, 0], 40)
        put_feature(store, "f", video, rng.normal(size=(40, 4)) + labels[:, None] * [[0.2, 0, 0, 0]])
        if video != "v2":  # one video is without the feature
            logits = np.where(np.array([4, 5])[None] == labels[:, None], 6.0, 0.0)
            present = np.arange(38) % 3 > 0
            put_feature(store, "g", video, np.concatenate([logits, np.zeros((40, 1))], axis=1)[:38], present)
        store.write_labels("expr", video, "train" if number < 2 else "val", labels[:, None].astype(np.int8))
    runs = folder / "runs"
    for name, penalty in (("one", 1), ("two", 0.001)):
        head = {"name": "logistic", "inverse_penalty": penalty}
        config = make_config({"task": "expr", "features": ("f",), "head": head, "window": 20})
        list(pipeline.train_seeds([config], store, runs, name, device="cpu"))
        pipeline.evaluate(open_predictor(runs / name, "cpu"), store)
    return folder / "s.zarr", runs


@pytest.fixture
def runs(world: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(world[1], tmp_path / "runs"))


def test_a_recipe_gives_smoothing_prefers_and_fits_biases(world: tuple[Path, Path], tmp_path: Path) -> None:
    """As `hsemotion` has it: `abaw tune` without options takes all three, and `abaw run` knows that they are fitted."""
    settings = {"smoothing": {"expr": "box:3"}, "prefer": "g>0.9", "fit_bias": "free"}
    values = {"task": "expr", "features": ("f",), "head": {"name": "logistic"}, "window": 20}
    config = make_config({**values, "postprocess": settings})
    store = FeatureStore.open(world[0])
    [(run, _)] = pipeline.train_seeds([config], store, tmp_path, "one", device="cpu")
    tuning = pipeline.tune(run, store, "auto", tmp_path, "cpu")
    assert tuning.fit_on == "crossed"
    assert {one.width for one in tuning.postprocess.smoothing.values()} == {3} and len(
        tuning.postprocess.smoothing
    ) == 8
    assert tuning.postprocess.prefer is not None and tuning.postprocess.prefer.classes == ("Happiness", "Sadness", "")
    # biases of the two classes that the labels of val have beside Neutral, fitted on what was smoothed
    smoothed = Postprocess(smoothing=tuning.postprocess.smoothing)
    predictions = open_predictor(run.folder, "cpu", raw=True).predict(store, Selection("val"))
    outputs, labels, _ = stack_labels(smoothed.apply_to(EXPR, predictions).values())
    biases = np.array([tuning.postprocess.offsets.get(name, 0) for name in EXPRESSIONS])
    answers, known = (outputs + biases).argmax(axis=1), np.unique(labels[:, 0])
    found, before = (f1_score(labels[:, 0], one, labels=range(8), average="macro", zero_division=0)
                     for one in (answers, outputs.argmax(axis=1)))  # fmt: skip
    assert found > before and len(known) == 3
    recipe_run = RecipeRun(config, run)
    assert recipe_run.is_tuned(has_folds=False)
    for change in ({"prefer": "g>0.8"}, {"fit_bias": "prior"}, {"smoothing": {"expr": "box:5"}}, {"prefer": ""}):
        other = make_config({**values, "postprocess": {**settings, **change}})
        assert not RecipeRun(other, run).is_tuned(has_folds=False), change


@pytest.mark.parametrize(
    ("task", "settings", "message"),
    [
        ("va", {"prefer": "g>0.9"}, "postprocess.prefer is for classes, which task va does not have"),
        ("au", {"fit_bias": "free"}, "postprocess.fit_bias is for classes, which task au does not have"),
        ("expr", {"fit_bias": "free", "bias": {"Fear": 1.0}}, "gives what postprocess.fit_bias would fit"),
        ("expr", {"prefer": "g"}, "postprocess.prefer"),
    ],
)
def test_settings_that_do_not_fit_are_refused(task: str, settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        make_config({"task": task, "features": ("f",), "postprocess": settings})


def test_what_is_preferred_is_scored_predicted_and_averaged(
    run_cli: Callable[..., Result], world: tuple[Path, Path], runs: Path
) -> None:
    places = ("--store", world[0], "--runs", runs, "--device", "cpu")
    tuned = json.loads(run_cli("tune", "one", "--prefer", "g>0.9", "--fit-on", "train", "--json", *places).stdout)
    assert tuned["postprocess"]["prefer"] == {
        **{"feature": "g", "above": 0.9, "fingerprint": "fingerprint of g"},
        "classes": ["Happiness", "Sadness", ""],
    }
    assert_refused(run_cli("ensemble", "one", "two", "--runs", runs), 2, "are without feature 'g'", "abaw eval")
    post = json.loads(run_cli("eval", "one", "--json", *places).stdout)["postprocessed"]
    assert post["origin"] == "fitted on train, g where it is above 0.9"
    kept = load_predictions(runs / "one" / "predictions-val.h5")
    assert np.isnan(kept["v2"].confident.probabilities).all()
    is_missing = np.isnan(kept["v1"].confident.probabilities).all(axis=1)
    np.testing.assert_array_equal(is_missing, np.pad(np.arange(38) % 3 == 0, (0, 2), constant_values=True))
    store, steps = FeatureStore.open(world[0]), Postprocess.model_validate(tuned["postprocess"])
    answers = open_predictor(runs / "one", "cpu").predict(store, Selection(rows={"v1": 45, "v2": 40}))
    plain = steps.model_copy(update={"prefer": None}).apply_to(EXPR, kept)
    labels = kept["v1"].labels[:, 0]
    sure = np.pad(np.arange(38) % 3 > 0, (0, 2)) & (labels != 0)
    found = decide(EXPR, answers["v1"].outputs)[:40, 0]
    np.testing.assert_array_equal(found[sure], labels[sure])
    np.testing.assert_array_equal(found[~sure], decide(EXPR, plain["v1"].outputs)[~sure, 0])
    np.testing.assert_allclose(answers["v2"].outputs, plain["v2"].outputs, atol=1e-5)
    assert run_cli("ensemble", "one", "two", "--run", "both", "--runs", runs).exit_code == 0
    averaged = load_predictions(runs / "both" / "predictions-val.h5")["v1"].outputs
    two = load_predictions(runs / "two" / "predictions-val.h5")["v1"].outputs
    shares = np.exp(two - np.logaddexp.reduce(two, axis=1, keepdims=True))[sure, 4]
    # of the two classes that the task has: contempt falls away
    happy = np.where(labels[sure] == 4, np.exp(6), 1) / (np.exp(6) + 1)
    np.testing.assert_allclose(np.exp(averaged[sure, 4]), (shares + happy) / 2, rtol=1e-3)
    with pytest.raises(
        UsageError, match=r"prefers feature 'g' of a store, which videos do not have. Leave it out with --raw"
    ):
        RunPredictor(open_run(runs / "one"), PredictOptions(device="cpu"))


def test_other_or_unnamed_features_are_refused(
    run_cli: Callable[..., Result], world: tuple[Path, Path], runs: Path, tmp_path: Path
) -> None:
    places = ("--store", world[0], "--runs", runs, "--device", "cpu")
    assert_refused(run_cli("tune", "one", "--prefer", "f>0.9", *places), 2, "'f' is not logits of named classes")
    assert_refused(run_cli("tune", "one", "--prefer", "h>0.9", *places), 2, "No feature 'h' in", "it has: f, g")
    spec = {"shape": [1], "modality": "vision", "weights": "none", "classes": ["contempt"]}
    store = FeatureStore.create(tmp_path / "other.zarr")
    store.add_feature("g", spec, None, "another")
    with pytest.raises(UsageError, match="'g' has none of the classes of task expr: it has contempt"):
        PREFER.found_in(store, EXPR)
    with pytest.raises(StoreError, match="differs from the one that the post-processing prefers"):
        PREFER.attach(store, {})
