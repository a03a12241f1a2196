"""The post-processing of a run: what it was fitted on, the file that holds it, and out-of-fold predictions."""

import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from abaw import __version__
from abaw.core.errors import CheckpointError, UsageError
from abaw.core.files import save_json
from abaw.core.progress import Reporter, Silent
from abaw.core.tasks import Task
from abaw.evaluate.postprocessing.cross_fit import CrossFit, apply_cross_fit, can_cross_fit, cross_fit, n_fits
from abaw.evaluate.postprocessing.postprocess import (
    FitMethod,
    Postprocess,
    fit_postprocess,
    give_postprocess,
    n_candidates,
)
from abaw.evaluate.predictions import VideoPrediction, stack_labels
from abaw.evaluate.scores.metrics import score
from abaw.store import FeatureStore
from abaw.store.label_arrays import VideoLabels
from abaw.train.config import TrainConfig, make_config
from abaw.train.data.folds import parse_fold
from abaw.train.data.table import select_labels
from abaw.train.runs import Run, all_runs

POSTPROCESS = "postprocess.json"
N_FOLDS = 3  # suggested if no fold has been trained yet

FitOn = Literal["folds", "crossed", "train", "val", "nothing"]
FitChoice = Literal["auto", "folds", "crossed", "train", "val"]
PredictRun = Callable[[Run, str], Mapping[str, VideoPrediction]]


class FittedRun(BaseModel):
    """A run whose predictions were fitted: its name, its fold, and the fingerprints of its features by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    fold: str
    features: dict[str, str]


class Tuning(BaseModel):
    """A post-processing and what it was fitted on.

    Attributes:
        abaw: version that fitted it.
        task: its name.
        weights: sha256 of the checkpoint that it is for.
        postprocess: the fitted post-processing.
        fit_on: `folds` (predictions of other runs for videos that they were not trained on), `crossed` (val, each video
            post-processed by a fit on other videos of it), `train` (the training videos of the run, which its head has
            seen), `val`, or `nothing` (it was given).
        crossed: with `crossed`, the fits for the videos of val; `postprocess`, fitted on all of them, is for all others.
        runs: runs whose predictions were fitted.
        videos, n_frames: videos and number of rows that were fitted on, including rows without a label.
        score_before, score_after: scores on all labelled rows of the same videos. Where they were fitted on, both are
            optimistic, `score_after` more so.
        method: how it was fitted, and what was given.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    abaw: str
    task: str
    weights: str
    postprocess: Postprocess
    fit_on: FitOn
    runs: tuple[FittedRun, ...]
    videos: tuple[str, ...]
    n_frames: int
    score_before: float
    score_after: float
    crossed: tuple[CrossFit, ...] = ()
    method: FitMethod = FitMethod()

    @property
    def origin(self) -> str:
        """Where it comes from, in words."""
        fitted = {"crossed": "cross-fitted on val", "nothing": "as given"}.get(self.fit_on, f"fitted on {self.fit_on}")
        return ", ".join(filter(None, [fitted, self.method.in_words]))

    def apply_to(self, task: Task, predictions: Mapping[str, VideoPrediction]) -> dict[str, VideoPrediction]:
        """Post-process the predictions of each video."""
        return apply_cross_fit(task, self.crossed, self.postprocess, predictions)

    def note(self, videos: Collection[str]) -> str:
        """A sentence if a score on these videos is optimistic: some were fitted on, or it was fitted on `val`. Else empty."""
        if self.fit_on == "val":
            return "post-processing fitted on val: optimistic"
        if self.fit_on in ("crossed", "nothing"):  # no video of val is post-processed by a fit on itself
            return ""
        n_fitted = len(set(videos) & set(self.videos))
        return f"post-processing fitted on {n_fitted} of these {len(videos)} videos: optimistic" if n_fitted else ""


def fit_run(
    run: Run,
    store: FeatureStore | None,
    fit_on: FitChoice,
    runs: Path,
    predict_run: PredictRun,
    method: FitMethod | None = None,
    reporter: Reporter | None = None,
) -> Tuning:
    """Fit the post-processing of a run and save it in its folder as `postprocess.json`.

    What `method` gives is not fitted; with `auto`, nothing else is fitted then either. Otherwise `auto` is `folds` where
    all folds have runs with the options of this one, else `crossed`, or `train` where val cannot be divided: images, or
    videos of a single recording.

    With `folds`, the videos that the run validates on are not fitted. (The heads of other folds were trained on them, so
    their labels influence the fitted predictions, but not the fit itself.)

    Args:
        runs: folder with the runs of the folds.
        predict_run: predictions of a run's best checkpoint on a split, with labels.

    Raises:
        UsageError: folds are missing; the message has the commands that train them. Or val cannot be divided.
    """
    method = method or FitMethod()
    on = _best_choice(run, store, runs, method, predict_run) if fit_on == "auto" else fit_on
    task, checkpoint = run.task, run.digest()  # before it is read, since a running training may replace it
    sources = fold_runs(run, store, runs) if on == "folds" else [run]
    predictions = _predictions_of(sources, on, predict_run)
    predictions = _without_validation(run, store, predictions, predict_run) if on == "folds" else predictions
    reporter = reporter or Silent()
    postprocess, crossed = _fits(run, predictions, on, method, reporter)
    tuning = Tuning(
        abaw=__version__,
        task=task.name,
        weights=checkpoint,
        postprocess=postprocess,
        fit_on=on,
        runs=tuple(_describe(source) for source in sources),
        videos=tuple(sorted(predictions)),
        n_frames=sum(len(prediction.outputs) for prediction in predictions.values()),
        score_before=_score_of(task, predictions),
        score_after=_score_of(task, apply_cross_fit(task, crossed, postprocess, predictions)),
        crossed=crossed,
        method=method,
    )
    reporter.finish()
    return _saved(run, tuning)


def _saved(run: Run, tuning: Tuning) -> Tuning:
    save_json(run.folder / POSTPROCESS, tuning.model_dump(mode="json"))
    return tuning


def _fits(
    run: Run, predictions: Mapping[str, VideoPrediction], on: FitOn, method: FitMethod, reporter: Reporter
) -> tuple[Postprocess, tuple[CrossFit, ...]]:
    """The fit on all videos, and those of groups; the progress is not finished, for scoring takes time, too."""
    task = run.task
    if on == "crossed" and not can_cross_fit(task, predictions):
        raise UsageError(f"Run {run.name} validates on {_undivided(task)}: nothing to cross-fit. Use --fit-on train.")
    if on == "nothing":
        return give_postprocess(task, predictions, method), ()
    n = 1 + (n_fits(task, predictions) if on == "crossed" else 0)
    reporter.start("fit", n * n_candidates(task, method), "candidates")
    postprocess = fit_postprocess(task, predictions, method, reporter.advance)
    return postprocess, cross_fit(task, predictions, method, reporter.advance) if on == "crossed" else ()


def _predictions_of(sources: Collection[Run], on: FitOn, predict_run: PredictRun) -> dict[str, VideoPrediction]:
    split = "train" if on == "train" else "val"
    return {video: prediction for source in sources for video, prediction in predict_run(source, split).items()}


def _without_validation(
    run: Run, store: FeatureStore | None, predictions: Mapping[str, VideoPrediction], predict_run: PredictRun
) -> dict[str, VideoPrediction]:
    """Predictions of the videos that a run does not validate on."""
    validation = _validation_videos(run, store, predict_run)
    others = {video: prediction for video, prediction in predictions.items() if video not in validation}
    if not others:
        raise UsageError(
            f"All videos of the folds are among the {len(validation)} that {run.name} validates on: nothing is left to fit "
            "on. Use --fit-on train."
        )
    return others


def _best_choice(run: Run, store: FeatureStore | None, runs: Path, method: FitMethod, predict_run: PredictRun) -> FitOn:
    """What to fit on, unless the user says so; see `fit_run`."""
    if method.is_given:
        return "nothing"
    if run.task.level != "image" and _all_folds(_trained_folds(run, runs)):
        return "folds"
    return "crossed" if can_cross_fit(run.task, _validation_videos(run, store, predict_run)) else "train"


def _validation_videos(
    run: Run, store: FeatureStore | None, predict_run: PredictRun
) -> Mapping[str, VideoPrediction] | Mapping[str, VideoLabels]:
    """The videos that a run validates on; without a store those that it predicts from images."""
    return predict_run(run, "val") if store is None else select_labels(store, run.task, "val", run.config.fold)


def _undivided(task: Task) -> str:
    return "images without videos" if task.level == "image" else "videos of a single recording"


def load_tuning(run: Run) -> Tuning | None:
    """The post-processing in a run's folder; None if there is none.

    Raises:
        CheckpointError: the file is damaged, is for another task, or was fitted to another checkpoint.
    """
    path = run.folder / POSTPROCESS
    name = shlex.quote(run.name)
    remedy = f"Fit again with `abaw tune {name}`, or leave it out with `abaw eval {name} --raw`."
    try:
        tuning = Tuning.model_validate_json(path.read_bytes())
        for postprocess in (tuning.postprocess, *(fit.postprocess for fit in tuning.crossed)):
            postprocess.check_fits(run.task)
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise CheckpointError(f"{path} is damaged ({key[:80]!r}: {first['msg'][:80]}). {remedy}") from None
    except (OSError, UsageError) as error:
        raise CheckpointError(f"{path} cannot be used ({error}). {remedy}") from None
    if tuning.task != run.task.name:
        raise CheckpointError(f"{path} is for task {tuning.task!r}, the run for {run.task.name}. {remedy}")
    if tuning.weights != run.digest():
        raise CheckpointError(f"{path} was fitted to another {run.checkpoint.name} than the one next to it. {remedy}")
    return tuning


def _describe(run: Run) -> FittedRun:
    features = {name: str(run.features[name]["fingerprint"]) for name in run.config.features}
    return FittedRun(name=run.name, fold=run.config.fold, features=features)


def _score_of(task: Task, predictions: Mapping[str, VideoPrediction]) -> float:
    outputs, labels, _ = stack_labels(predictions.values())
    return score(task, outputs, labels).score


def fold_runs(run: Run, store: FeatureStore | None, runs: Path) -> list[Run]:
    """The newest trained run of every fold K/N with the options of `run` (except fold and seed), for the largest such N.

    Raises:
        UsageError: folds are missing for every N, or the task has no folds.
    """
    if run.task.level == "image" and run.task.table is None:
        raise UsageError(f"Task {run.config.task} has no folds: its videos are whole classes. Use --fit-on train.")
    by_n_folds = _trained_folds(run, runs)
    if found := _all_folds(by_n_folds):
        return found
    of = max(by_n_folds, key=lambda of: len(by_n_folds[of]), default=N_FOLDS)
    trained = by_n_folds.get(of, {})
    missing = [number for number in range(1, of + 1) if number not in trained]
    if run.config.is_of_pixels:
        numbers = ", ".join(map(str, missing))
        commands = f"`abaw finetune ... --fold K/{of}` with the options of {run.name}, for K = {numbers}"
    else:
        path = store.path if store is not None else "store.zarr"
        commands = "; ".join(train_command(run.config, f"{fold}/{of}", path, str(runs)) for fold in missing)
    trained_folds = f"folds {', '.join(f'{number}/{of}' for number in sorted(trained))}" if trained else "no fold"
    raise UsageError(
        f"Out-of-fold predictions need runs with the options of {run.name} on every fold; {runs} has {trained_folds}. Train "
        f"the others, then tune again: {commands}"
    )


def _trained_folds(run: Run, runs: Path) -> dict[int, dict[int, Run]]:
    """By N and K the newest trained run of each fold K/N with the options of `run` (except fold and seed)."""
    by_n_folds: dict[int, dict[int, Run]] = {}
    checkpoint = run.name.removeprefix(run.home.name)  # such as `@best-va`
    for other in all_runs(runs):
        other = replace(other, folder=other.folder.with_name(f"{other.name}{checkpoint}"))
        is_like = _without_fold(other.config) == _without_fold(run.config) and other.features == run.features
        if other.config.fold and is_like and other.checkpoint.is_file():
            fold = parse_fold(other.config.fold)
            by_n_folds.setdefault(fold.of, {})[fold.number] = other
    return by_n_folds


def _all_folds(by_n_folds: Mapping[int, Mapping[int, Run]]) -> list[Run]:
    """The runs of all folds, for the largest N that has all; empty if none has."""
    complete = [of for of, by_number in by_n_folds.items() if len(by_number) == of]
    return [other for _, other in sorted(by_n_folds[max(complete)].items())] if complete else []


def _without_fold(config: TrainConfig) -> TrainConfig:
    return config.of_training().model_copy(update={"fold": "", "seed": 0})


def train_command(config: TrainConfig, fold: str, store: str, runs: str) -> str:
    """The command that trains a config (except its seed) on a fold, with these paths of the store and the runs."""
    required = {"task": config.task, "features": config.features}
    defaults = make_config({**required, "head": {"name": config.head.name}, "loss": {"name": config.loss.name}})
    words = ["abaw", "train", "--task", config.task]
    for feature in config.features:
        words += ["--feature", feature]
    words += ["--head", config.head.name, "--loss", config.loss.name, "--fold", fold]
    default_values = _flatten(defaults.resolved().model_dump())
    for key, value in _flatten(_without_fold(config).model_dump()).items():
        if value != default_values[key]:
            words += ["--set", f"{key}={','.join(map(str, value)) if isinstance(value, tuple) else value}"]
    for option, path, default in (("--store", store, "store.zarr"), ("--runs", runs, "runs")):
        words += [option, path] if path != default else []
    return shlex.join(words)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested options, by the keys that `--set` takes."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
