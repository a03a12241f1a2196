"""Post-processing: what it does, that fitting finds the best, what it may see, and the two commands about it."""

import json
import re
import shlex
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_softmax
from sklearn.metrics import f1_score

from abaw import pipeline
from abaw.core.errors import CheckpointError, UsageError
from abaw.core.progress import Silent
from abaw.core.tasks import ACTION_UNITS, EXPRESSIONS, TASKS, Task
from abaw.evaluate.postprocessing.cross_fit import can_cross_fit
from abaw.evaluate.postprocessing.postprocess import (
    TAUS,
    FitMethod,
    Postprocess,
    fit_postprocess,
    give_postprocess,
    n_candidates,
)
from abaw.evaluate.postprocessing.postprocess_options import parse_method, parse_smoothings
from abaw.evaluate.postprocessing.smoothing import Smoothing, smooth
from abaw.evaluate.postprocessing.thresholds import LARGEST_CUT, best_threshold, plateau_threshold
from abaw.evaluate.postprocessing.tuning import POSTPROCESS, fit_run, fold_runs, load_tuning, train_command
from abaw.evaluate.predictions import VideoPrediction, load_predictions
from abaw.evaluate.scores.metrics import decide, score
from abaw.evaluate.trained import Selection, TrainedRun
from abaw.store import FeatureStore
from abaw.store.label_arrays import VideoLabels
from abaw.train.config import make_config
from abaw.train.run_files import BEST
from abaw.train.runs import Run, find_run

VA, EXPR, AU, MTL = (TASKS[name] for name in ("va", "expr", "au", "mtl"))


def noisy_videos(task: Task, n_videos: int = 4, n_rows: int = 300, seed: int = 0) -> dict[str, VideoPrediction]:
    """Labels that change slowly, outputs that follow them with white noise and too rarely say the rare ones."""
    rng = np.random.default_rng(seed)
    videos = {}
    for number in range(n_videos):
        slow = np.sin(np.linspace(0, 9, n_rows)[:, None] + rng.uniform(0, 6, len(task.outputs)))
        labels, outputs = [], []
        for part, given_, _ in task.each():
            truth, noise = slow[:, given_], rng.normal(size=slow[:, given_].shape)
            rare = np.linspace(0, 0.8, truth.shape[1])
            if part.kind == "regression":
                labels.append(truth)
                outputs.append(truth + 0.5 * noise)
            elif part.kind == "binary":
                labels.append(truth > rare)
                outputs.append(2 * (truth - rare) + noise - 0.7)
            else:
                labels.append((3 * truth - 2 * rare).argmax(1)[:, None])
                outputs.append(3 * truth - 5 * rare + noise)
        present = rng.random(n_rows) < 0.95
        videos[f"v{number}"] = VideoPrediction(
            np.concatenate(outputs, axis=1).astype(np.float32),
            np.concatenate(labels, axis=1).astype(np.float32),
            present,
            25.0,
        )
    return videos


def score_of(task: Task, videos: Mapping[str, VideoPrediction]) -> float:
    outputs = np.concatenate([found.outputs for found in videos.values()])
    return score(task, outputs, np.concatenate([found.labels for found in videos.values()])).score


# what it does


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_nothing_is_done_by_default(task: Task) -> None:
    outputs = np.random.default_rng(0).normal(size=(20, len(task.outputs))).astype(np.float32)
    found = Postprocess().apply(task, outputs, np.arange(20) % 3 > 0)
    np.testing.assert_array_equal(found, outputs)
    assert found.dtype == np.float32


def test_threshold_is_where_an_action_unit_is_decided() -> None:
    thresholds = dict(zip(ACTION_UNITS, np.linspace(0.05, 0.95, 12), strict=True))
    outputs = np.random.default_rng(0).normal(0, 2, size=(500, 12)).astype(np.float32)
    found = Postprocess(thresholds=thresholds).apply(AU, outputs, np.ones(500, dtype=bool))
    np.testing.assert_array_equal(decide(AU, found), expit(outputs.astype(np.float64)) > list(thresholds.values()))


def test_offset_is_added_to_the_logit_of_a_class() -> None:
    outputs = np.array([[1, 0, 0, 0, 0, 0, 0, 0.5]], dtype=np.float32)
    shifted = Postprocess(offsets={"Other": 0.75}).apply(EXPR, outputs, np.array([True]))
    assert shifted.tolist() == [[1, 0, 0, 0, 0, 0, 0, 1.25]]
    assert decide(EXPR, shifted).tolist() == [[7]]


def test_mtl_is_its_parts_side_by_side() -> None:
    steps = Postprocess(
        smoothing={
            "valence": Smoothing(kind="median", width=5),
            "AU1": Smoothing(kind="box", width=9),
            **dict.fromkeys(EXPRESSIONS, Smoothing(kind="savgol", width=11)),
        },
        thresholds={"AU26": 0.3},
        offsets={"Fear": 2.0},
    )
    for found in noisy_videos(MTL, 2).values():
        whole = steps.apply(MTL, found.outputs, found.present)
        for part, columns, _ in MTL.each():
            names = set(part.outputs)
            own = Postprocess(**{key: {n: v for n, v in value if n in names} for key, value in _items(steps).items()})
            np.testing.assert_array_equal(whole[:, columns], own.apply(part, found.outputs[:, columns], found.present))
        np.testing.assert_array_equal(whole[:, 0], smooth(found.outputs[:, :1], found.present, "median", 5)[:, 0])
        np.testing.assert_array_equal(whole[:, 1], found.outputs[:, 1])


def _items(steps: Postprocess) -> dict[str, list[tuple[str, object]]]:
    return {name: list(getattr(steps, name).items()) for name in ("smoothing", "thresholds", "offsets")}


# thresholds


def best_by_trial(logits: np.ndarray, actual: np.ndarray) -> float:
    """The largest F1 of all sets of answers that a threshold within reach can give, each counted by itself."""
    values = np.unique(np.clip(logits.astype(np.float64), -LARGEST_CUT, LARGEST_CUT))
    cuts = [0.0, -LARGEST_CUT + 1e-6, LARGEST_CUT - 1e-6, *values[:-1], *(values[:-1] + np.diff(values) / 2)]
    return max(f1_by_counts(actual, logits > cut) for cut in cuts)


def f1_by_counts(actual: np.ndarray, answers: np.ndarray) -> float:
    precision = actual[answers].mean() if answers.any() else 0.0
    recall = answers[actual].mean() if actual.any() else 0.0
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(1, 25),
    # rounded to few values there are ties; times 20, saturated logits
    digits=st.sampled_from([0, 1, 6]),
    scale=st.sampled_from([0.5, 3, 20]),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_threshold_is_the_best_of_all(seed: int, n: int, digits: int, scale: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    logits = (scale * rng.normal(size=n).round(digits)).astype(np.float32)
    actual = rng.random(n) < share
    threshold, reached = best_threshold(logits, actual)
    assert 0 < threshold < 1
    assert reached == pytest.approx(best_by_trial(logits, actual))
    steps = Postprocess(thresholds={"AU1": threshold})
    answers = decide(AU, steps.apply(AU, np.tile(logits[:, None], 12), np.ones(n, dtype=bool)))[:, 0]
    assert f1_by_counts(actual, answers) == pytest.approx(reached)


def test_of_equally_good_thresholds_the_one_nearest_to_a_half_is_taken() -> None:
    # below -1, F1 is 2 2 / (2 2 + 2) = 2/3; below 3, 2 1 / (2 1 + 1) = 2/3
    logits, actual = np.array([-1, 0, 1, 3], dtype=np.float32), np.array([True, False, False, True])
    assert best_threshold(logits, actual) == (pytest.approx(expit(2)), pytest.approx(2 / 3))
    # any threshold between -4 and 3 separates these
    assert best_threshold(np.array([-4, 3], dtype=np.float32), np.array([False, True])) == (0.5, 1)


@pytest.mark.parametrize("actual", [[False, False, False], []])
def test_unit_that_never_occurs_keeps_one_half(actual: list[bool]) -> None:
    logits = np.linspace(-1, 1, len(actual)).astype(np.float32)
    assert best_threshold(logits, np.array(actual, dtype=bool)) == (0.5, 0)


# fitting


@pytest.mark.parametrize("task", [VA, EXPR, AU, MTL], ids=lambda task: task.name)
def test_fitting_makes_noisy_predictions_better_on_other_videos(task: Task) -> None:
    steps = fit_postprocess(task, noisy_videos(task))
    others = noisy_videos(task, seed=1)
    assert score_of(task, steps.apply_to(task, others)) > score_of(task, others) + 0.05
    assert set(steps.smoothing) == set(task.outputs)
    steps.check_fits(task)


def test_smoothing_is_the_best_of_a_search_by_hand() -> None:
    videos = noisy_videos(VA, 2, 200)
    found = fit_postprocess(VA, videos).smoothing["arousal"]
    scores = {}
    for width in (1, 5, 11, 21, 41, 61, 101, 151, 201):
        for kind in ("box", "gaussian", "median", "savgol"):
            answers = [smooth(v.outputs, v.present, kind, width)[:, 1] for v in videos.values()]
            x, y = np.clip(np.concatenate(answers), -1, 1), np.concatenate([v.labels[:, 1] for v in videos.values()])
            scores[kind, width] = 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert scores[found.kind, found.width] == pytest.approx(max(scores.values()), abs=1e-9)
    assert found.width > 1


def test_smoothing_of_classes_is_one_for_all() -> None:
    assert len(set(fit_postprocess(EXPR, noisy_videos(EXPR)).smoothing.values())) == 1


@pytest.mark.parametrize("name", ["lsd", "vgaf"])
def test_tasks_without_time_get_offsets_alone(name: str) -> None:
    task, rng = TASKS[name], np.random.default_rng(0)
    n_classes = len(task.outputs)
    shares = np.arange(1, n_classes + 1) / sum(range(1, n_classes + 1))
    labels = rng.choice(n_classes, size=(400, 1), p=shares)
    # logits of a posterior: what the label says, and too much of how often it comes
    outputs = (rng.normal(size=(400, n_classes)) + 1.5 * np.eye(n_classes)[labels[:, 0]] + 3 * np.log(shares)).astype(
        np.float32
    )
    found = VideoPrediction(outputs, labels.astype(np.float32), np.ones(400, dtype=bool), 25.0)
    steps = fit_postprocess(task, {"a": found})
    assert (steps.smoothing, steps.thresholds) == ({}, {})
    counts = np.bincount(labels[:, 0])
    scores = []
    for tau in TAUS:
        answers = (log_softmax(outputs, axis=1) - tau * np.log(counts / 400)).argmax(1)
        macro = f1_score(labels[:, 0], answers, average="macro", labels=range(n_classes), zero_division=0)
        scores.append(np.mean(answers == labels[:, 0]) if name == "vgaf" else macro)
    assert score_of(task, steps.apply_to(task, {"a": found})) == pytest.approx(max(scores))
    tau = -steps.offsets[task.outputs[0]] / np.log(counts[0] / 400)
    assert [steps.offsets[n] for n in task.outputs] == pytest.approx(list(-tau * np.log(counts / 400)))


def test_class_that_labels_lack_gets_no_offset() -> None:
    labels = np.array([[0], [0], [0], [1]], dtype=np.float32)
    outputs = np.zeros((4, 8), dtype=np.float32)
    outputs[:, 0] = 1
    outputs[3, 1] = 0.9
    found = VideoPrediction(outputs, labels, np.ones(4, dtype=bool), 25.0)
    steps = fit_postprocess(EXPR, {"a": found})
    assert steps.offsets["Anger"] > steps.offsets["Neutral"] > 0
    assert {steps.offsets[name] for name in EXPRESSIONS[2:]} == {0}
    assert decide(EXPR, steps.apply(EXPR, outputs, found.present))[:, 0].tolist() == [0, 0, 0, 1]


def test_invalid_labels_have_no_say() -> None:
    """Whatever the outputs are at frames that are neither labelled nor near one."""
    for task in (VA, EXPR, AU):
        videos = noisy_videos(task, 2, 400)
        kept = np.arange(400) < 200
        half = {
            name: VideoPrediction(v.outputs[kept], v.labels[kept], v.present[kept], v.fps) for name, v in videos.items()
        }
        wild = {}
        for name, v in half.items():
            n = 2000
            outputs = np.concatenate([v.outputs, np.full((n, v.outputs.shape[1]), 50, dtype=np.float32)])
            labels = np.concatenate([v.labels, np.full((n, v.labels.shape[1]), task.invalid, dtype=np.float32)])
            wild[name] = VideoPrediction(outputs, labels, np.concatenate([v.present, np.zeros(n, dtype=bool)]), v.fps)
        assert fit_postprocess(task, wild) == fit_postprocess(task, half)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_a_video_without_any_label_is_fitted_in_silence(task: Task) -> None:
    labels = np.tile(np.array(task.invalid_row, dtype=np.float32), (1, 1))
    outputs = np.zeros((1, len(task.outputs)), dtype=np.float32)
    found = fit_postprocess(task, {"a": VideoPrediction(outputs, labels, np.array([False]), 0.0)})
    assert {one.width for one in found.smoothing.values()} <= {1}
    assert set(found.thresholds.values()) <= {0.5}
    assert set(found.offsets.values()) <= {0}


def test_no_video_is_an_error() -> None:
    with pytest.raises(UsageError, match="no videos to fit post-processing on"):
        fit_postprocess(VA, {})


# other ways to fit


def test_threshold_in_the_middle_of_a_plateau_by_hand() -> None:
    """F1 is 1 up to the frame at probability .2, .8 (2 hits of 2 + 3) up to that at .6, .67 up to that at .7, then 0."""
    chances = np.array([0.1, 0.2, 0.6, 0.7])
    actual = np.array([False, True, True, True])
    found = plateau_threshold(np.log(chances / (1 - chances)).astype(np.float32), actual)
    assert found == (pytest.approx(0.15, abs=1e-6), pytest.approx(1.0))
    # a frame that is off is far down in a long plateau: 198 hits of 200 + 200 without it, .9925 with it
    chances = np.concatenate([np.linspace(0.9, 0.99, 200), [0.3], np.full(50, 0.1)])
    found = plateau_threshold(np.log(chances / (1 - chances)).astype(np.float32), np.arange(251) < 200)
    step = (
        0.09 / 199
    )  # 2 * 197 / 397 is .9924 and 2 * 196 / 396 is .9899: three frames above .9 are still in the plateau
    assert found[0] == pytest.approx((0.1 + 0.9 + 3 * step) / 2, abs=1e-5)
    assert plateau_threshold(np.zeros(3, dtype=np.float32), np.zeros(3, dtype=bool)) == (0.5, 0.0)


def test_free_biases_by_hand() -> None:
    """Anger is answered for Fear in all frames; a bias of Fear between 1 and 3 tells the two apart."""
    outputs = np.full((4, 8), -5, dtype=np.float32)
    outputs[:, 1] = 4
    outputs[:, 3] = [3, 3, 1, 1]
    labels = np.array([[3], [3], [1], [1]], dtype=np.float32)
    video = VideoPrediction(outputs, labels, np.ones(4, dtype=bool), 25.0)
    found = fit_postprocess(
        EXPR, {"a": video}, FitMethod(offsets="free", given=parse_method(EXPR, smooth="box:1").given)
    )
    assert found.offsets["Fear"] - found.offsets["Anger"] == pytest.approx(2)
    assert decide(EXPR, found.apply(EXPR, outputs, video.present)).tolist() == [[3], [3], [1], [1]]


@pytest.mark.parametrize("task", [EXPR, TASKS["vgaf"]], ids=str)
def test_free_biases_beat_those_of_the_shares(task: Task) -> None:
    given = FitMethod().given if task.level != "frame" else parse_method(task, smooth="box:1").given
    videos = noisy_videos(task)
    by_shares, free = (
        fit_postprocess(task, videos, FitMethod(offsets=name, given=given)) for name in ("prior", "free")
    )
    gain = score_of(task, free.apply_to(task, videos)) - score_of(task, by_shares.apply_to(task, videos))
    assert gain > 0.002
    # no single bias makes it better
    best = score_of(task, free.apply_to(task, videos))
    for name, offset in free.offsets.items():
        for step in (-0.5, -0.1, 0.1, 0.5):
            moved = free.model_copy(update={"offsets": free.offsets | {name: offset + step}})
            assert score_of(task, moved.apply_to(task, videos)) <= best + 1e-9


def test_levels_of_each_person_by_hand() -> None:
    labels = np.zeros((4, 2), dtype=np.float32)
    present = np.array([True, True, True, False])
    videos = {
        "calm": VideoPrediction(np.array([[0, 5], [0.2, 5], [0.1, 5], [9, 5]], np.float32), labels, present, 25.0),
        "wild": VideoPrediction(np.array([[1, 0], [-1, 2], [0, 1], [1, 1]], np.float32), labels, present, 25.0),
    }
    method = parse_method(VA, smooth="box:1", per_person=True)
    steps = fit_postprocess(VA, videos, method)
    pooled = np.array([0, 0.2, 0.1, 1, -1, 0])
    assert steps.levels["valence"].mean == pytest.approx(pooled.mean())
    assert steps.levels["valence"].spread == pytest.approx(pooled.std())
    found = steps.apply_to(VA, videos)
    calm = (np.array([0, 0.2, 0.1, 9]) - 0.1) / np.std([0, 0.2, 0.1]) * pooled.std() + pooled.mean()
    np.testing.assert_allclose(found["calm"].outputs[:, 0], calm, rtol=1e-5)
    assert found["calm"].outputs[:, 1].tolist() == pytest.approx([3.0] * 4)  # constant: the mean of 5, 5, 5, 0, 2, 1
    assert give_postprocess(VA, videos, method) == steps


def test_what_is_given_is_not_fitted() -> None:
    videos = noisy_videos(MTL)
    fitted = fit_postprocess(MTL, videos)
    given = parse_method(MTL, "AU1=.11", "valence=median:5,expr=box:3")
    steps = fit_postprocess(MTL, videos, given)
    assert steps.thresholds == {**steps.thresholds, "AU1": 0.11} and steps.thresholds["AU2"] == fitted.thresholds["AU2"]
    assert steps.smoothing["valence"] == Smoothing(kind="median", width=5)
    assert steps.smoothing["arousal"] == fitted.smoothing["arousal"]
    assert {steps.smoothing[name].width for name in EXPRESSIONS} == {3}
    assert fit_postprocess(MTL, videos, parse_method(MTL, bias="Fear=2")).offsets == {"Fear": 2.0}


@pytest.mark.parametrize(
    ("task", "method", "n"),
    [
        (VA, FitMethod(), 33),  # 8 widths of 4 kinds, and none
        (EXPR, FitMethod(), 33 + 31),  # multiples from -1 to 2
        (AU, FitMethod(), 33 + 12),
        (MTL, FitMethod(), 3 * 33 + 31 + 12),
        (MTL, parse_method(MTL, "AU1=.11", "valence=median:5,expr=box:3"), 2 * 33 + 31 + 11),
        (EXPR, parse_method(EXPR, bias="Fear=2"), 33),
        (TASKS["lsd"], FitMethod(), 31),  # images have no time to smooth over
    ],
)
def test_candidates_are_counted_as_they_are_tried(task: Task, method: FitMethod, n: int) -> None:
    tried: list[int] = []
    fit_postprocess(task, noisy_videos(task, 2, 40), method, lambda: tried.append(1))
    assert len(tried) == n_candidates(task, method) == n


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (AU, {"threshold": "AU1=1.5"}, "A threshold is a probability above 0 and below 1; found '1.5' in --threshold."),
        (AU, {"threshold": "AU1=nan"}, "found 'nan' in --threshold"),
        (AU, {"threshold": "AU3=.5"}, "--threshold: task au has no 'AU3'. Did you mean AU"),
        (AU, {"threshold": "AU1=.5,AU1=.6"}, "--threshold names AU1 twice. Leave out one of them."),
        (AU, {"threshold": "AU1=.5,.6"}, "--threshold needs NAME=VALUE between commas; found '.6'."),
        (
            AU,
            {"threshold": "middle"},
            "--threshold is best, plateau, or by name such as AU1=.69,AU2=.5; found 'middle'.",
        ),
        (VA, {"threshold": "plateau"}, "--threshold is for action units, which task va does not have. Leave it out."),
        (AU, {"bias": "free"}, "--bias is for classes, which task au does not have. Leave it out."),
        (EXPR, {"bias": "some"}, "--bias is prior, free, or by name such as Anger=.5,Fear=-1; found 'some'."),
        (EXPR, {"bias": "Fear=1e9"}, "from -100 to 100; found '1e9' in --bias."),
        (
            VA,
            {"smooth": "valance=box:5"},
            "--smooth: task va has no 'valance'. Did you mean valence? Choose from: valence,",
        ),
        (VA, {"smooth": "valence=box:4"}, "odd number of frames up to 1001; found 'box:4'."),
        (TASKS["lsd"], {"per_person": True}, "--per-person is about frames of videos, which task lsd does not have."),
    ],
)
def test_mistyped_options_are_refused(task: Task, options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        parse_method(task, **options)


# the file


def test_file_of_an_older_version_reads_back_and_is_written_the_same() -> None:
    old = '{"smoothing":{},"thresholds":{"AU1":0.3},"offsets":{}}'
    assert Postprocess.model_validate_json(old).model_dump_json() == old


def test_json_reads_back_equal() -> None:
    steps = fit_postprocess(MTL, noisy_videos(MTL, 2, 100))
    assert Postprocess.model_validate_json(steps.model_dump_json()) == steps
    assert Postprocess.model_validate(json.loads(json.dumps(steps.model_dump(mode="json")))) == steps


def test_what_a_task_does_not_have_is_refused() -> None:
    box = Smoothing(kind="box", width=5)
    with pytest.raises(UsageError, match=r"va has no thresholds of 'valence': it has none"):
        Postprocess(thresholds={"valence": 0.4}).check_fits(VA)
    with pytest.raises(UsageError, match=r"va has no smoothing of 'AU1': it has smoothing of valence, arousal"):
        Postprocess(smoothing={"AU1": box}).check_fits(VA)
    with pytest.raises(UsageError, match=r"lsd has no smoothing of 'Anger': it has none"):
        parse_smoothings(TASKS["lsd"], "box:5")


# the commands


TASK_HEADS = {"va": "ridge", "expr": "logistic", "au": "logistic"}


@pytest.fixture(scope="module")
def probes(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs: `au`, and `va` with one of each of three folds."""
    runs = tmp_path_factory.mktemp("tuned") / "runs"
    store = FeatureStore.open(tiny_store)
    for name, task, fold in (
        ("au", "au", ""),
        ("va", "va", ""),
        *((f"fold{k}", "va", f"{k}/3") for k in (1, 2, 3)),
    ):
        config = make_config({"task": task, "features": ("hog",), "head": {"name": TASK_HEADS[task]}, "fold": fold})
        for _ in pipeline.train_seeds([config], store, runs, name, device="cpu"):
            pass
    pipeline.tune(find_run(runs, "va"), store, "train", runs, "cpu")
    return runs


@pytest.fixture
def runs(probes: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(probes, tmp_path / "runs"))


@pytest.fixture
def tuned(runs: Path) -> Run:
    """The run `va` with the post-processing that was fitted on its training videos."""
    return find_run(runs, "va")


@pytest.fixture
def call(run_cli: Callable[..., Result], tiny_store: Path, runs: Path, tmp_path: Path) -> Callable[..., Result]:
    """`abaw tune` or `abaw eval` on the tiny demo; without pictures of faces."""

    def run(command: str, *arguments: object) -> Result:
        data = ("--data", tmp_path / "none") if command == "eval" else ()
        return run_cli(command, *arguments, "--store", tiny_store, "--runs", runs, "--device", "cpu", *data)

    return run


def as_json(result: Result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def videos_of(store: Path, task: str, split: str) -> set[str]:
    return set(FeatureStore.open(store).labels(task, split))


class Counted(Silent):
    """A reporter that keeps what was announced of each step, and how much of it was done."""

    def __init__(self) -> None:
        self.steps: dict[str, list[int]] = {}

    def start(self, label: str, total: int, unit: str, done: int = 0) -> None:
        self.steps[label] = [total, done]

    def advance(self, n: int = 1, note: str = "") -> None:
        self.steps[list(self.steps)[-1]][1] += n


@pytest.mark.parametrize("fit_on", ["train", "crossed"])
def test_progress_of_a_fit_ends_at_its_total(runs: Path, tiny_store: Path, fit_on: str) -> None:
    counted = Counted()
    pipeline.tune(find_run(runs, "va"), FeatureStore.open(tiny_store), fit_on, runs, "cpu", counted)  # type: ignore[arg-type]
    total, done = counted.steps["fit"]
    assert total == done == (33 if fit_on == "train" else 33 * 3)  # of the two recordings of val, too


def test_scoring_shows_that_it_goes_on_after_the_prediction(runs: Path, tiny_store: Path) -> None:
    counted = Counted()
    predictor = TrainedRun.open(find_run(runs, "va"), "cpu")
    pipeline.evaluate(predictor, FeatureStore.open(tiny_store), "val", None, None, counted)
    assert list(counted.steps)[-1] == "score" and "predict" in counted.steps


def test_given_thresholds_and_smoothing_are_applied_and_nothing_is_fitted(
    call: Callable[..., Result], runs: Path
) -> None:
    found = as_json(call("tune", "au", "--threshold", "AU1=.3,AU26=.8", "--smooth", "AU1=box:5", "--json"))
    assert found["fit_on"] == "nothing" and found["crossed"] == []
    assert found["postprocess"] == {
        "smoothing": {"AU1": {"kind": "box", "width": 5}},
        "thresholds": {"AU1": 0.3, "AU26": 0.8},
        "offsets": {},
    }
    post = as_json(call("eval", "au", "--json"))["postprocessed"]
    assert (post["origin"], post["note"]) == ("as given", "")
    kept = load_predictions(runs / "au" / "predictions-val.h5")
    by_hand = {}
    for name, video in kept.items():
        outputs = video.outputs.astype(np.float64)
        outputs[:, [0]] = smooth(video.outputs[:, [0]], video.present, "box", 5)
        outputs[:, 0] -= np.log(0.3 / 0.7)
        outputs[:, 11] -= np.log(0.8 / 0.2)
        by_hand[name] = replace(video, outputs=outputs)
    assert score_of(AU, by_hand) == pytest.approx(post["official"]["score"])
    assert found["score_after"] == pytest.approx(post["official"]["score"])
    fitted = as_json(call("tune", "au", "--threshold", "plateau", "--per-person", "--json"))
    assert fitted["fit_on"] == "crossed" and all(one["postprocess"]["levels"] for one in fitted["crossed"])
    shown = call("eval", "au").output
    assert "thresholds at the centre of a plateau, levels of each person" in " ".join(shown.split())


def test_smoothing_by_output_of_eval(call: Callable[..., Result], runs: Path) -> None:
    post = as_json(call("eval", "va", "--smooth", "valence=box:101,arousal=box:41", "--json"))["postprocessed"]
    assert post["origin"] == "valence=box:101,arousal=box:41"
    kept = load_predictions(runs / "va" / "predictions-val.h5")
    by_hand = {n: replace(v, outputs=smooth(v.outputs, v.present, "box", [101, 41])) for n, v in kept.items()}
    assert score_of(VA, by_hand) == pytest.approx(post["official"]["score"])


@pytest.mark.parametrize(
    "words", [("tune", "au", "--threshold", "AU3=.5"), ("eval", "va", "--smooth", "valance=box:5")]
)
def test_typos_fail_before_anything_is_read(run_cli: Callable[..., Result], runs: Path, words: tuple[str, ...]) -> None:
    result = run_cli(*words, "--store", runs / "no.zarr", "--runs", runs)
    assert result.exit_code == 2 and words[2] in result.stderr and "no.zarr" not in result.stderr


@pytest.mark.parametrize("fit_on", ["train", "folds", "val"])
def test_tune_tells_and_keeps_what_it_was_fitted_on(
    call: Callable[..., Result], runs: Path, tiny_store: Path, fit_on: str
) -> None:
    found = as_json(call("tune", "va", "--fit-on", fit_on, "--json"))
    assert json.loads((runs / "va" / POSTPROCESS).read_text()) == found
    train, val = (videos_of(tiny_store, "va", split) for split in ("train", "val"))
    assert set(found["videos"]) == (val if fit_on == "val" else train)
    assert [one["name"] for one in found["runs"]] == (["fold1", "fold2", "fold3"] if fit_on == "folds" else ["va"])
    assert {len(one["features"]["hog"]) for one in found["runs"]} == {64}
    assert found["score_after"] >= found["score_before"]

    raw = as_json(call("eval", "va", "--raw", "--json"))
    assert raw["postprocessed"] is None
    evaluated = as_json(call("eval", "va", "--json"))
    assert {key: value for key, value in evaluated.items() if key != "postprocessed"} == {
        key: value for key, value in raw.items() if key != "postprocessed"
    }
    post = evaluated["postprocessed"]
    assert post["origin"] == f"fitted on {fit_on}"
    assert post["note"] == ("post-processing fitted on val: optimistic" if fit_on == "val" else "")
    assert post["postprocess"] == found["postprocess"]
    if fit_on == "val":
        assert post["official"]["score"] == pytest.approx(found["score_after"])
        assert evaluated["official"]["score"] == pytest.approx(found["score_before"])
    # what is kept is what the head gave, and the scores follow from it
    kept = load_predictions(runs / "va" / "predictions-val.h5")
    assert score_of(VA, kept) == pytest.approx(raw["official"]["score"])
    steps = Postprocess.model_validate(found["postprocess"])
    assert score_of(VA, steps.apply_to(VA, kept)) == pytest.approx(post["official"]["score"])


def test_out_of_fold_predictions_are_each_folds_own(call: Callable[..., Result], runs: Path, tiny_store: Path) -> None:
    """Pooled by hand from the predictions that the three runs leave; a run of a fold leaves out its own videos."""
    found = as_json(call("tune", "va", "--fit-on", "folds", "--json"))
    pooled = {}
    for k in (1, 2, 3):
        assert call("eval", f"fold{k}", "--json").exit_code == 0
        pooled |= load_predictions(runs / f"fold{k}" / "predictions-val.h5")
    train = {video: one for video, one in pooled.items() if video in videos_of(tiny_store, "va", "train")}
    assert found["score_before"] == pytest.approx(score_of(VA, train))
    own = set(load_predictions(runs / "fold2" / "predictions-val.h5"))
    assert set(as_json(call("tune", "fold2", "--fit-on", "folds", "--json"))["videos"]) == set(pooled) - own


@pytest.mark.parametrize("fit_on", ["train", "val"])
def test_labels_of_val_are_read_only_when_asked_for(tiny_store: Path, runs: Path, tmp_path: Path, fit_on: str) -> None:
    """With the validation labels in another order the fit is the same, to the bit, unless it is on these."""
    shuffled = tmp_path / "shuffled.zarr"
    shutil.copytree(tiny_store, shuffled)
    store, rng = FeatureStore.create(shuffled), np.random.default_rng(0)
    for video, found in FeatureStore.open(tiny_store).labels("au", "val").items():
        store.drop(f"labels/au/{video}")
        store.write_labels("au", video, "val", rng.permutation(found.rows))
    run = find_run(runs, "au")
    one = pipeline.tune(run, FeatureStore.open(tiny_store), fit_on, runs, "cpu")  # type: ignore[arg-type]
    two = pipeline.tune(run, FeatureStore.open(shuffled), fit_on, runs, "cpu")  # type: ignore[arg-type]
    assert (one == two) == (fit_on == "train")


def test_without_folds_each_video_of_val_is_post_processed_by_a_fit_on_the_others(
    call: Callable[..., Result], runs: Path, tiny_store: Path
) -> None:
    """The fits and the score are made again by hand, from the raw predictions that the run leaves."""
    tuning = as_json(call("tune", "au", "--json"))
    evaluated = as_json(call("eval", "au", "--json"))["postprocessed"]
    kept = load_predictions(runs / "au" / "predictions-val.h5")
    groups = [group["videos"] for group in tuning["crossed"]]
    assert len(groups) > 1 and sorted(video for group in groups for video in group) == sorted(kept)
    assert tuning["fit_on"] == "crossed" and tuning["videos"] == sorted(videos_of(tiny_store, "au", "val"))
    tuned: dict[str, VideoPrediction] = {}
    for group in tuning["crossed"]:
        steps = fit_postprocess(AU, {video: one for video, one in kept.items() if video not in group["videos"]})
        assert steps == Postprocess.model_validate(group["postprocess"])
        tuned |= steps.apply_to(AU, {video: kept[video] for video in group["videos"]})
    assert fit_postprocess(AU, kept) == Postprocess.model_validate(tuning["postprocess"])
    assert (evaluated["origin"], evaluated["note"]) == ("cross-fitted on val", "")
    assert score_of(AU, tuned) == pytest.approx(evaluated["official"]["score"]) == pytest.approx(tuning["score_after"])
    assert score_of(AU, kept) == pytest.approx(tuning["score_before"])
    on_train = as_json(call("eval", "au", "--split", "train", "--json"))["postprocessed"]  # by the fit on all of val
    rest = Postprocess.model_validate(tuning["postprocess"])
    others = load_predictions(runs / "au" / "predictions-train.h5")
    assert score_of(AU, rest.apply_to(AU, others)) == pytest.approx(on_train["official"]["score"])
    shown = call("tune", "au").stdout
    assert (
        "au: cross-fitted on val" in shown and f"each of {len(groups)} groups of videos by a fit on the others" in shown
    )
    assert shown.splitlines()[-1].startswith("Next: abaw eval au --store ")


def test_rows_of_a_cross_fitted_run_are_those_that_are_scored(
    call: Callable[..., Result], runs: Path, tmp_path: Path
) -> None:
    """Not those of the fit on all of val; the run's saved predictions give the same rows."""
    assert as_json(call("tune", "au", "--json"))["fit_on"] == "crossed"
    assert call("eval", "au", "--csv", tmp_path / "au.csv").exit_code == 0
    find_run(runs, "au").predictions().write_csv(tmp_path / "saved.csv")
    assert (tmp_path / "au.csv").read_text() == (tmp_path / "saved.csv").read_text()


def test_with_runs_on_all_folds_their_predictions_are_fitted(call: Callable[..., Result], runs: Path) -> None:
    assert as_json(call("tune", "va", "--json")) == as_json(call("tune", "va", "--fit-on", "folds", "--json"))
    shutil.rmtree(runs / "fold2")
    assert as_json(call("tune", "va", "--json"))["fit_on"] == "crossed"


def test_what_cannot_be_divided_is_not_cross_fitted(tiny_store: Path, runs: Path, tmp_path: Path) -> None:
    pair = {name: VideoLabels("val", np.zeros((1, 1))) for name in ("7_left", "7_right")}
    assert not can_cross_fit(TASKS["lsd"], {**pair, "a": pair["7_left"]}) and not can_cross_fit(AU, pair)
    assert can_cross_fit(AU, {**pair, "8": pair["7_left"]})
    assert can_cross_fit(TASKS["lsd"], {name: replace(one, person=name) for name, one in pair.items()})
    assert not can_cross_fit(TASKS["lsd"], {name: replace(one, person="7") for name, one in pair.items()})
    store = FeatureStore.create(Path(shutil.copytree(tiny_store, tmp_path / "one.zarr")))
    for video in sorted(videos_of(tiny_store, "au", "val"))[1:]:
        store.drop(f"labels/au/{video}")
    run = find_run(runs, "au")
    assert pipeline.tune(run, store, "auto", runs, "cpu").fit_on == "train"
    with pytest.raises(UsageError, match="a single recording: nothing to cross-fit"):
        pipeline.tune(run, store, "crossed", runs, "cpu")


def test_table_shows_both_scores_side_by_side(call: Callable[..., Result]) -> None:
    shown = call("tune", "au", "--fit-on", "val")
    assert shown.exit_code == 0
    assert "scores on val are optimistic" in shown.stderr
    found = as_json(call("eval", "au", "--json"))
    result = call("eval", "au")
    line = next(line for line in result.stdout.splitlines() if line.startswith("│ score"))
    for scores in (found["official"], found["crop_only"], found["postprocessed"]["official"]):
        assert f"{scores['score']:.3f}" in line
    assert found["postprocessed"]["official"]["score"] > found["official"]["score"]
    words = " ".join(result.stdout.replace("┃", " ").split())
    assert all(word in words for word in ("post-processed", "val:", "optimistic"))
    assert "Post-processing fitted on val: optimistic." in result.stderr
    assert "post-processed" not in call("eval", "au", "--raw").output


def test_score_on_videos_it_was_fitted_on_is_marked(call: Callable[..., Result], tuned: Run, tiny_store: Path) -> None:
    n_videos = len(videos_of(tiny_store, "va", "train"))
    note = as_json(call("eval", "va", "--split", "train", "--json"))["postprocessed"]["note"]
    assert note == f"post-processing fitted on {n_videos} of these {n_videos} videos: optimistic"


def test_smoothing_by_hand_replaces_the_fitted_one(call: Callable[..., Result], tuned: Run) -> None:
    post = as_json(call("eval", "va", "--smooth", "box:21", "--json"))["postprocessed"]
    assert (post["origin"], post["note"]) == ("box:21", "")
    outputs, labels = [], []
    for found in load_predictions(tuned.folder / "predictions-val.h5").values():
        outputs.append(smooth(found.outputs, found.present, "box", 21))
        labels.append(found.labels)
    wanted = score(VA, np.concatenate(outputs), np.concatenate(labels)).score
    assert post["official"]["score"] == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("eval", "va", "--smooth", "box:50"), "odd number of frames"),
        (("eval", "va", "--smooth", "box:51", "--raw"), "Choose one of them"),
        (("tune", "va", "--fit-on", "test"), "'test' is not one of 'auto', 'folds', 'crossed', 'train', 'val'"),
        (("tune", "none"), "No run 'none'"),
    ],
)
def test_wrong_use_is_refused(call: Callable[..., Result], arguments: tuple[str, ...], words: str) -> None:
    result = call(*arguments)
    assert result.exit_code == 2
    assert words in result.output


# folds that are missing


def test_missing_folds_are_named_with_the_commands_that_train_them(
    call: Callable[..., Result], run_cli: Callable[..., Result], runs: Path
) -> None:
    shutil.rmtree(runs / "fold2")
    result = call("tune", "va", "--fit-on", "folds")
    assert result.exit_code == 2
    assert "has folds 1/3, 3/3. Train the others" in result.stderr
    command = shlex.split(result.stderr.split("tune again: ")[1])
    assert run_cli(*command[1:]).exit_code == 0
    assert call("tune", "va", "--fit-on", "folds").exit_code == 0


def test_run_that_stopped_before_a_checkpoint_is_no_fold(call: Callable[..., Result], runs: Path) -> None:
    (runs / "fold3" / "best.safetensors").unlink()
    assert "has folds 1/3, 2/3." in call("tune", "va", "--fit-on", "folds").stderr
    assert "has no fold. Train" in call("tune", "au", "--fit-on", "folds").stderr


def test_newest_run_of_a_fold_is_taken(runs: Path, tiny_store: Path) -> None:
    again = shutil.copytree(runs / "fold1", runs / "again")
    config = json.loads((again / "config.json").read_text())
    config["created"], config["config"]["seed"] = "2999-01-01T00:00:00+00:00", 5
    (again / "config.json").write_text(json.dumps(config))
    found = fold_runs(find_run(runs, "va"), FeatureStore.open(tiny_store), runs)
    assert [run.name for run in found] == ["again", "fold2", "fold3"]


@pytest.mark.parametrize(
    "options",
    [
        ["epochs=3", "head.dim=24", "head.mask_ratio=0.25", "window=40", "speed=0.5,2", "loss.name=ccc"],
        ["head.name=linear", "views=,hflip", "co_train=true", "patience=3", "optimizer=sgd", "seed=7"],
    ],
)
def test_train_command_gives_the_same_config(options: list[str]) -> None:
    config = make_config({"task": "va", "features": ("a b", "c")}, options)
    words = shlex.split(train_command(config, "2/4", "s3://b/store.zarr", "my runs"))
    assert words[:2] == ["abaw", "train"]
    pairs = list(zip(words[2::2], words[3::2], strict=True))
    assert pairs[-2:] == [("--store", "s3://b/store.zarr"), ("--runs", "my runs")]
    given = dict(pairs)
    values = {
        "task": given["--task"],
        "features": tuple(value for key, value in pairs if key == "--feature"),
        "head": {"name": given["--head"]},
        "loss": {"name": given["--loss"]},
        "fold": given["--fold"],
    }
    found = make_config(values, [value for key, value in pairs if key == "--set"])
    assert found == config.model_copy(update={"fold": "2/4", "seed": 0})


# files that are damaged, or somebody else's


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: "", "damaged"),
        (lambda text: "{" * 100_000, "damaged"),
        (lambda text: "\x00\x1b[31m", "damaged"),
        (lambda text: text[: len(text) // 2], "damaged"),
        (lambda text: "[]", "damaged"),
        (lambda text: text.replace('"valence": {', '"joy": {', 1), "no smoothing of 'joy'"),
        (lambda text: text.replace('"task": "va"', '"task": "au"'), "for task 'au', the run for va"),
        (lambda text: text.replace('"width": ', '"width": 1000'), "postprocess.smoothing.valence.width"),
        (lambda text: re.sub('"width": [0-9]+', '"width": 4', text), "odd number of frames"),
        (lambda text: text.replace('"offsets": {}', '"offsets": {"Fear": NaN}'), "finite number"),
        (lambda text: text.replace('"weights": "', '"weights": "0'), "another best.safetensors"),
        (lambda text: text.replace('"abaw"', '"command"', 1), "damaged"),
    ],
)
def test_damaged_file_is_one_sentence(tuned: Run, change: Callable[[str], str], words: str) -> None:
    path = tuned.folder / POSTPROCESS
    path.write_text(change(path.read_text()))
    with pytest.raises(CheckpointError) as caught:
        load_tuning(tuned)
    said = str(caught.value)
    assert words in said
    assert said.startswith(str(path))
    assert said.endswith("with `abaw tune va`, or leave it out with `abaw eval va --raw`.")
    assert said.isprintable()


def test_fit_is_not_taken_for_that_of_a_checkpoint_which_replaces_its_own(tuned: Run, tiny_store: Path) -> None:
    store = FeatureStore.open(tiny_store)

    def predict_and_replace(run: Run, split: str) -> Mapping[str, VideoPrediction]:
        predictions = TrainedRun.open(run, "cpu", raw=True).predict(store, Selection(split))
        (run.folder / BEST).write_bytes(b"of a later epoch")
        return predictions

    fit_run(tuned, store, "val", tuned.folder.parent, predict_and_replace)
    with pytest.raises(CheckpointError, match=r"was fitted to another best\.safetensors"):
        load_tuning(tuned)


def test_damaged_file_stops_eval_unless_it_is_left_out(call: Callable[..., Result], tuned: Run) -> None:
    (tuned.folder / POSTPROCESS).write_text("{}")
    result = call("eval", "va")
    assert (result.exit_code, len(result.stderr.splitlines())) == (1, 1)
    assert "postprocess.json is damaged" in result.stderr
    assert call("eval", "va", "--raw", "--json").exit_code == 0


def test_folder_in_the_place_of_the_file(tuned: Run) -> None:
    (tuned.folder / POSTPROCESS).unlink()
    assert load_tuning(tuned) is None
    (tuned.folder / POSTPROCESS).mkdir()
    with pytest.raises(CheckpointError, match="cannot be used"):
        load_tuning(tuned)
