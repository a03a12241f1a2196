"""Trained runs and ensembles as predictors: the one place where a run, its model and its post-processing meet.

    predictor = find_predictor(Path("runs"), "va-1")
    predictor.predict(store, Selection("val"))                   every labelled row of a split
    predictor.predict(store, Selection(rows={"video": 250}))     this many rows of unlabelled videos
    evaluate(predictor, store, "val")                         scores and predictions, saved in its folder

Opening a predictor is cheap; torch and the checkpoints are loaded for the first prediction.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from abaw.core.claim_files import Claim
from abaw.core.errors import AbawError, UsageError
from abaw.core.progress import Reporter, Silent, Ticker
from abaw.core.tasks import Task
from abaw.evaluate.combining import combine_outputs
from abaw.evaluate.ensemble import (
    ENSEMBLE,
    Ensemble,
    combine_results,
    digest_of,
    find_ensemble,
    open_ensemble,
)
from abaw.evaluate.evaluation import Evaluation, evaluate_predictions
from abaw.evaluate.postprocessing.postprocess import FitMethod, Postprocess
from abaw.evaluate.postprocessing.postprocess_options import method_of, parse_smoothings
from abaw.evaluate.postprocessing.tuning import POSTPROCESS, FitChoice, Tuning, fit_run, load_tuning
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.result_claims import claimed_in, claimed_results
from abaw.evaluate.results import Results, read_digest
from abaw.evaluate.run_summaries import RunSummary, rank_for_submission, summarise_runs
from abaw.store import FeatureStore
from abaw.train.data import folds
from abaw.train.data.seen_videos import warn_of_seen
from abaw.train.data.table import load_table, select_labels, unlabelled
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.run_files import no_run, split_checkpoint
from abaw.train.runs import Run, find_run, open_run

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Selection:
    """The rows to predict.

    Attributes:
        split: predict all labelled rows of this split; for a run trained on a fold, of the fold's split.
        rows: instead, the number of rows to predict by video, for unlabelled videos. Predictions have more rows if
            the features have more.
    """

    split: str = ""
    rows: Mapping[str, int] | None = None


class Predictor(Protocol):
    """A run or an ensemble, opened."""

    @property
    def name(self) -> str:
        """Name of the folder."""

    @property
    def folder(self) -> Path:
        """Folder of the run or ensemble."""

    @property
    def task(self) -> Task:
        """The task that it predicts."""

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that it needs."""

    @property
    def fold(self) -> str:
        """`fold K/N` if it was trained and validated on folds rather than on the official split, else empty."""

    def digest(self) -> str:
        """The sha256 of everything its saved predictions depend on; see `abaw.evaluate.predictions.save_predictions`."""

    def load(self) -> None:
        """Load models now rather than for the first prediction.

        Raises:
            UsageError: the device cannot be used.
            CheckpointError: a checkpoint is missing or damaged.
        """

    @property
    def needs_store(self) -> bool:
        """False if it can predict the splits of its data from images, without features."""

    def features_in(self, store: FeatureStore | None) -> tuple[str, ...]:
        """Names of the features of a store that it predicts unlabelled videos from.

        Raises:
            StoreError: no store, or a fine-tuned encoder has no features there.
        """

    def reading(self, data: Path | None) -> "Predictor":
        """The same predictor, which takes images from a data folder where it can; None is that of the training."""

    def reporting(self, reporter: Reporter) -> "Predictor":
        """The same predictor, which reports its progress: videos as they are loaded, then windows."""

    def predict(self, store: FeatureStore | None, selection: Selection) -> dict[str, VideoPrediction]:
        """Predictions by video, post-processed.

        Args:
            store: None only if `needs_store` is False.

        Raises:
            UsageError: the store lacks features or labels.
            StoreError: its features differ from those of the training, or it is damaged.
        """

    def evaluate(self, store: FeatureStore | None, split: str, smoothing: str | None = None) -> Evaluation:
        """Score the predictions of a split.

        Args:
            smoothing: such as `box:51`, see `parse_smoothings`; instead of the fitted post-processing.

        Raises:
            AbawError: like `predict`.
        """

    def postprocessing(self, videos: Collection[str]) -> dict[str, str]:
        """The origin of the post-processing by run, such as `fitted on val: optimistic`, for these videos."""


@dataclass(frozen=True)
class TrainedRun:
    """A run with its best checkpoint and its post-processing.

    Attributes:
        run: the run.
        device: "auto" uses a GPU if available.
        tuning: the post-processing; None for no post-processing.
        checkpoint: sha256 of the best checkpoint, computed before it is read, since a running training may replace it.
        reporter: of the progress of predictions.
        data: folder with the images, for a fine-tuned run; None is that of its training.
    """

    run: Run
    device: str
    tuning: Tuning | None
    checkpoint: str
    reporter: Reporter = field(default_factory=Silent, compare=False, repr=False)
    data: Path | None = None

    @classmethod
    def open(cls, run: Run, device: str = "auto", raw: bool = False) -> "TrainedRun":
        """Open a run.

        Args:
            device: "auto" uses a GPU if available.
            raw: leave out the post-processing that `abaw tune` fitted.

        Raises:
            CheckpointError: the post-processing is damaged or does not belong to the checkpoint.
        """
        return cls(run, device, None if raw else load_tuning(run), run.digest())

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.run.name

    @property
    def folder(self) -> Path:
        """Folder of the run."""
        return self.run.folder

    @property
    def task(self) -> Task:
        """The task that it predicts."""
        return self.run.task

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that it needs."""
        return self.run.config.features

    @property
    def fold(self) -> str:
        """See `Predictor`."""
        return f"fold {self.run.config.fold}" if self.run.config.fold else ""

    def digest(self) -> str:
        """The sha256 of its checkpoint: predictions are saved without post-processing."""
        return self.checkpoint

    @property
    def needs_store(self) -> bool:
        """See `Predictor`."""
        return not isinstance(self.run.config, FinetuneConfig)

    def features_in(self, store: FeatureStore | None) -> tuple[str, ...]:
        """See `Predictor`."""
        if self.needs_store:
            _there(store, self.name)
            return self.features
        from abaw.evaluate import pixel_predictions

        names = pixel_predictions.stored_features(self.run, store) if store is not None else []
        if not names:
            raise pixel_predictions.no_pixels(self.run)
        return tuple(dict.fromkeys(name for copy in names for name in copy.values()))

    def reading(self, data: Path | None) -> "TrainedRun":
        """See `Predictor`."""
        return replace(self, data=data)

    def reporting(self, reporter: Reporter) -> "TrainedRun":
        """See `Predictor`."""
        return replace(self, reporter=reporter)

    def load(self) -> None:
        """See `Predictor`."""
        _ = self.loaded

    @cached_property
    def loaded(self) -> "tuple[nn.Module, torch.device]":
        """The model of the best checkpoint, on its device."""
        from abaw.core.devices import pick_device

        device = pick_device(self.device)
        if isinstance(self.run.config, FinetuneConfig):
            from abaw.train.finetune.encoder_build import best_pixel_model

            return best_pixel_model(self.run, device), device
        from abaw.train.model import best_model

        return best_model(self.run, device), device

    def predict(self, store: FeatureStore | None, selection: Selection) -> dict[str, VideoPrediction]:
        """See `Predictor`."""
        predictions = self.predict_raw(store, selection)
        return self.tuning.apply_to(self.task, predictions) if self.tuning else predictions

    def predict_raw(self, store: FeatureStore | None, selection: Selection) -> dict[str, VideoPrediction]:
        """Predictions by video, without post-processing; raises like `Predictor.predict`."""
        predictions = self._from_store(store, selection) if self.needs_store else self._from_pixels(store, selection)
        prefer = self.tuning.postprocess.prefer if self.tuning else None
        return prefer.attach(_there(store, self.name), predictions) if prefer else predictions

    def _from_store(self, store: FeatureStore | None, selection: Selection) -> dict[str, VideoPrediction]:
        from abaw.evaluate.inference import predict

        store = _there(store, self.name)
        self.run.check_store(store)
        model, device = self.loaded
        config = self.run.config
        if selection.rows is None:
            labels = select_labels(store, self.task, selection.split, config.fold)
        else:
            labels = unlabelled(self.task, selection.rows)
        if selection.split not in ("", "train"):
            for warning in warn_of_seen(store, config.features, labels, selection.split):
                self.reporter.warn(warning)
        reporter, label, quality = self.reporter, f"load {selection.split or 'videos'}", config.min_quality
        table = load_table(
            store, self.task, labels, config.features, config.missing, reporter, label, min_quality=quality
        )
        return predict(model, table, config.length, device, reporter, config.eval_step)

    def _from_pixels(self, store: FeatureStore | None, selection: Selection) -> dict[str, VideoPrediction]:
        from abaw.evaluate import pixel_predictions
        from abaw.train.finetune.pixel_model import PixelModel

        model, device = self.loaded
        assert isinstance(model, PixelModel), "the model of a fine-tuned run"
        names = pixel_predictions.stored_features(self.run, store) if store is not None else []
        if store is not None and names:
            return pixel_predictions.predict_stored(self.run, model, device, store, names, selection, self.reporter)
        if selection.rows is not None:
            raise pixel_predictions.no_pixels(self.run)
        return pixel_predictions.predict_pixels(self.run, model, device, self.data, selection.split, self.reporter)

    def evaluate(self, store: FeatureStore | None, split: str, smoothing: str | None = None) -> Evaluation:
        """Scores without and with post-processing; see `Predictor`."""
        smooth = Postprocess(smoothing=parse_smoothings(self.task, smoothing)) if smoothing else None
        evaluation = evaluate_predictions(self.task, self.predict_raw(store, Selection(split)))
        if smoothing and smooth:
            smoothed = smooth.apply_to(self.task, evaluation.predictions)
            return evaluation.with_postprocess(smooth, smoothed, smoothing)
        if self.tuning:
            tuned = self.tuning.apply_to(self.task, evaluation.predictions)
            note = self.tuning.note(evaluation.predictions)
            return evaluation.with_postprocess(self.tuning.postprocess, tuned, self.tuning.origin, note)
        return evaluation

    def results(self, store: FeatureStore | None, split: str) -> Results:
        """Post-processed predictions of a split; raises like `Predictor.predict`."""
        return Results(self.name, self.folder, self.task, self.predict_raw(store, Selection(split)), self.tuning)

    def postprocessing(self, videos: Collection[str]) -> dict[str, str]:
        """See `Predictor`."""
        if self.tuning is None:
            return {}
        return {self.name: self.tuning.origin + (": optimistic" if self.tuning.note(videos) else "")}


@dataclass(frozen=True)
class OpenEnsemble:
    """An ensemble with its runs opened.

    Attributes:
        ensemble: the ensemble.
        members: its runs, in the order of the weights.
        raw: predictions are averaged without the runs' post-processing.
    """

    ensemble: Ensemble
    members: tuple[TrainedRun, ...]
    raw: bool

    @classmethod
    def open(cls, ensemble: Ensemble, device: str = "auto", raw: bool = False) -> "OpenEnsemble":
        """Open an ensemble.

        Args:
            device: "auto" uses a GPU if available.
            raw: leave out the post-processing of its runs, even if the ensemble was created with it.

        Raises:
            UsageError: a run is missing.
            CheckpointError: a run is damaged or of another task.
        """
        raw = raw or ensemble.raw
        return cls(ensemble, tuple(TrainedRun.open(run, device, raw) for run in ensemble.runs()), raw)

    @property
    def name(self) -> str:
        """Name of the ensemble."""
        return self.ensemble.name

    @property
    def folder(self) -> Path:
        """Folder of the ensemble."""
        return self.ensemble.folder

    @property
    def task(self) -> Task:
        """The task that it predicts."""
        return self.ensemble.task

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features that its runs need."""
        return tuple(dict.fromkeys(feature for member in self.members for feature in member.features))

    @property
    def fold(self) -> str:
        """See `Predictor`: the folds of its runs."""
        return ", ".join(dict.fromkeys(member.fold for member in self.members if member.fold))

    def digest(self) -> str:
        """The sha256 of weights, checkpoints and post-processing."""
        return digest_of(
            [(run.checkpoint, run.tuning) for run in self.members], self.ensemble.weights, self.ensemble.by_output
        )

    @property
    def needs_store(self) -> bool:
        """See `Predictor`."""
        return any(member.needs_store for member in self.members)

    def features_in(self, store: FeatureStore | None) -> tuple[str, ...]:
        """See `Predictor`."""
        return tuple(dict.fromkeys(name for member in self.members for name in member.features_in(store)))

    def reading(self, data: Path | None) -> "OpenEnsemble":
        """See `Predictor`."""
        return replace(self, members=tuple(member.reading(data) for member in self.members))

    def reporting(self, reporter: Reporter) -> "OpenEnsemble":
        """See `Predictor`."""
        return replace(self, members=tuple(member.reporting(reporter) for member in self.members))

    def load(self) -> None:
        """See `Predictor`."""
        for member in self.members:
            member.load()

    def predict(self, store: FeatureStore | None, selection: Selection) -> dict[str, VideoPrediction]:
        """See `Predictor`."""
        parts = [(member.task, member.predict(store, selection)) for member in self.members]
        return combine_outputs(self.task, parts, self.ensemble.weights, self.ensemble.by_output)

    def evaluate(self, store: FeatureStore | None, split: str, smoothing: str | None = None) -> Evaluation:
        """Score the mean of the runs' post-processed predictions; see `Predictor`.

        Raises:
            UsageError: the requested post-processing differs from that of the ensemble.
        """
        if smoothing or self.raw != self.ensemble.raw:
            raise UsageError(
                f"--raw and --smooth are for single runs: ensemble {self.name} has a fixed post-processing. Leave them "
                "out, or create another with `abaw ensemble`, which has --raw."
            )
        results = [member.results(store, split) for member in self.members]
        return combine_results(results, self.ensemble.weights, self.ensemble.by_output)

    def postprocessing(self, videos: Collection[str]) -> dict[str, str]:
        """See `Predictor`."""
        return {run: origin for member in self.members for run, origin in member.postprocessing(videos).items()}


def _there(store: FeatureStore | None, name: str) -> FeatureStore:
    if store is None:
        raise UsageError(f"{name} needs a feature store. Name it with --store.")
    return store


def open_predictor(folder: Path, device: str = "auto", raw: bool = False) -> Predictor:
    """Open the run or ensemble in a folder.

    Args:
        device: "auto" uses a GPU if available.
        raw: leave out the post-processing that `abaw tune` fitted.

    Raises:
        UsageError: the folder has neither.
        CheckpointError: it is damaged.
    """
    if (folder / ENSEMBLE).is_file():
        return OpenEnsemble.open(open_ensemble(folder), device, raw)
    return TrainedRun.open(open_run(folder), device, raw)


def being_trained(predictor: Predictor) -> list[str]:
    """A sentence for each of its runs that a process is training: what these predict is that of a moment."""
    members = predictor.members if isinstance(predictor, OpenEnsemble) else (predictor,)
    folders = [split_checkpoint(member.folder)[0] for member in members]
    return [
        f"{folder.name} is being trained by {claim.describe()}: its best epoch so far predicts. Predict again after that."
        for folder in folders
        if (claim := Claim.living_on(folder)) is not None
    ]


def find_predictor(
    runs: Path, name: str | None, device: str = "auto", raw: bool = False, task: str | None = None
) -> Predictor:
    """Open the run or ensemble called `name` (under `runs`, or a path), or else the newest run (of a task).

    Args:
        device, raw: see `open_predictor`.

    Raises:
        UsageError: no such run; the message lists the existing ones.
        CheckpointError: it is damaged.
    """
    ensemble = find_ensemble(runs, name) if name is not None else None
    run_or_ensemble = ensemble or find_run(runs, name, task, also=ENSEMBLE)
    return open_predictor(run_or_ensemble.folder, device, raw)


@dataclass(frozen=True)
class BestRun:
    """The run or ensemble that validates best.

    Attributes:
        predictor: opened.
        summary: its score, and what it is validated on.
        passed_over: the others of the task, each with its score, or with the reason why it cannot be used, by name.
    """

    predictor: Predictor
    summary: RunSummary
    passed_over: dict[str, str]


def find_best(
    runs: Path, task: str, features: Collection[str] | None = None, device: str = "auto", raw: bool = False
) -> BestRun:
    """Open the run or ensemble of a task that validates best; see `rank_for_submission`.

    Args:
        features: of the store; runs that need others are passed over.
        device, raw: see `open_predictor`.

    Raises:
        UsageError: no run or ensemble of the task can be used; the message says why.
    """
    summaries, broken = summarise_runs(runs)
    ranked = rank_for_submission(summaries, task)
    if not ranked:
        raise no_run(runs, task)
    best, predictor, passed_over = None, None, dict(broken)
    for summary in ranked:
        passed_over[summary.name] = summary.score_in_words
        if predictor is not None or summary.score is None:
            continue
        try:
            candidate = _open_current(runs / summary.name, summary, features, device, raw)
        except AbawError as error:
            passed_over[summary.name] += f"; {error}"
        else:
            best, predictor = summary, candidate
            del passed_over[summary.name]
    if best is None or predictor is None:
        reasons = "; ".join(f"{name}: {why}" for name, why in passed_over.items())
        raise UsageError(
            f"No run of task {task} in {runs} can be taken ({reasons}). Name one that you want all the same."
        )
    return BestRun(predictor, best, passed_over)


def _open_current(
    folder: Path, summary: RunSummary, features: Collection[str] | None, device: str, raw: bool
) -> Predictor:
    """Open a run or ensemble whose features the store has, and whose score is that of its checkpoints."""
    missing = [feature for feature in summary.features if features is not None and feature not in features]
    if missing:
        raise UsageError(f"needs {', '.join(missing)}, which the store does not have")
    predictor = open_predictor(folder, device, raw)
    if summary.members:
        scored = open_predictor(folder) if raw else predictor
        if read_digest(folder, "val") != scored.digest():
            raise UsageError("its runs have changed since it was scored")
    return predictor


def shared_people(store: FeatureStore, task: Task, split: str) -> str:
    """A sentence about people who are in the videos of a split and of the training; empty without such."""
    return folds.shared_people(store.labels((task.selected_from or task).name), task, split)


def evaluate(
    predictor: Predictor,
    store: FeatureStore | None,
    split: str = "val",
    data: Path | None = None,
    smoothing: str | None = None,
    reporter: Reporter | None = None,
) -> Evaluation:
    """Score a run or ensemble on a split; save scores, predictions and a picture in its folder.

    Args:
        data: the data folder, if available: its faces are shown in the picture; fine-tuned runs take its images.
        smoothing: such as `box:51`, see `parse_smoothings`; instead of the fitted post-processing.
    """
    faces = None
    if data is not None and data.is_dir():
        from abaw.evaluate.report.face_crops import open_faces  # loads all layouts of data

        faces = open_faces(data)
    with claimed_results(predictor.folder, split):
        evaluation = predictor.reading(data).evaluate(store, split, smoothing)
        reporter = reporter or Silent()
        reporter.start("score", 1, "split")
        with Ticker(reporter) as ticker:
            ticker.doing("intervals, predictions and a picture")
            evaluation.save(predictor.folder, split, predictor.digest(), faces, store.path if store else "")
        reporter.finish()
    return evaluation


def tune(
    run: Run,
    store: FeatureStore | None,
    fit_on: FitChoice,
    runs: Path,
    device: str = "auto",
    reporter: Reporter | None = None,
    method: FitMethod | None = None,
) -> Tuning:
    """Fit the post-processing of a run and save it in its folder; see `fit_run`.

    Args:
        store: None only for a fine-tuned run, which predicts from images.
        runs: folder with the runs of the folds, for `folds` and `auto`.
        method: by default the post-processing of the run's recipe is taken as it is, if this has any and `fit_on` is
            `auto`; else all of it is fitted.
    """
    if method is None:
        method = method_of(run.config) if fit_on == "auto" else FitMethod()
    prefer = method.prefer.found_in(_there(store, run.name), run.task) if method.prefer else None
    method = method.model_copy(update={"prefer": prefer})

    def predict_run(source: Run, split: str) -> dict[str, VideoPrediction]:
        opened = TrainedRun.open(source, device, raw=True).reporting(reporter or Silent())
        predictions = opened.predict(store, Selection(split))
        return prefer.attach(_there(store, run.name), predictions) if prefer else predictions

    with claimed_in(run.folder, run.folder / POSTPROCESS):
        return fit_run(run, store, fit_on, runs, predict_run, method, reporter)
