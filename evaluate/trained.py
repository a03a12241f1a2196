"""What is done with trained runs and ensembles on a store: they are tuned, scored, and answer samples.

`abaw.pipeline` has these as stages.
"""

from pathlib import Path

from abaw.core.devices import pick_device
from abaw.core.tasks import get_task
from abaw.evaluate.ensemble import Ensemble, combine_results, digest_of
from abaw.evaluate.evaluation import Evaluation, evaluate_head
from abaw.evaluate.inference import predict
from abaw.evaluate.postprocessing.postprocess import Postprocess
from abaw.evaluate.postprocessing.smoothing import Smoothing
from abaw.evaluate.postprocessing.tuning import FitOn, Tuning, fit_run, load_tuning
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.report.face_crops import open_faces
from abaw.evaluate.results import Results, results_of
from abaw.evaluate.submission.formats import Sample, VideoList
from abaw.evaluate.submission.write import Answerer, Submission, check_fits, default_out, write_submission
from abaw.store import FeatureStore
from abaw.train.data.table import Table
from abaw.train.model import best_model
from abaw.train.new_run import load_split
from abaw.train.runs import Run


def tune(run: Run, store: FeatureStore, fit_on: FitOn, runs: Path, device: str = "auto") -> Tuning:
    """Fit the post-processing of a run's best checkpoint and keep it in the run; see `fit_run`.

    Args:
        runs: folder with the runs of the folds, which `folds` takes.
    """

    def predict_run(source: Run, split: str) -> dict[str, VideoPrediction]:
        return _evaluate_best(source, store, split, device).predictions

    return fit_run(run, store, fit_on, runs, predict_run)


def evaluate(
    run: Run,
    store: FeatureStore,
    split: str = "val",
    device: str = "auto",
    data: Path | None = None,
    raw: bool = False,
    smoothing: Smoothing | None = None,
) -> Evaluation:
    """Score a run's best checkpoint on a split; save scores, predictions (as they are) and a picture in the run.

    Args:
        data: the data folder, if it is at hand: its faces go into the picture.
        raw: leave out the post-processing that the run has.
        smoothing: of all outputs, instead of that post-processing.
    """
    task = get_task(run.config.task)
    chosen = Postprocess.uniform(task, smoothing) if smoothing else None
    tuning = None if raw or chosen else load_tuning(run)
    made_from = run.digest()  # before the checkpoint is read: a training that goes on may replace it
    found = _evaluate_best(run, store, split, device)
    if smoothing and chosen:
        found = found.with_postprocess(task, chosen, f"{smoothing.kind}:{smoothing.width}")
    elif tuning:
        found = found.with_postprocess(task, tuning.postprocess, tuning.origin, tuning.note(found.predictions))
    found.save(run.folder, split, task, made_from, open_faces(data))
    return found


def evaluate_ensemble(
    ensemble: Ensemble, store: FeatureStore, split: str = "val", device: str = "auto", data: Path | None = None
) -> tuple[Evaluation, list[Results]]:
    """Score an ensemble by the best checkpoints of its runs; save scores, predictions and a picture in its folder.

    Args:
        data: as of `evaluate`.

    Returns:
        The scores, and the predictions of each run with its post-processing.
    """
    runs = ensemble.runs()
    made_from = digest_of(runs, ensemble.weights, ensemble.raw)
    results = [results_of(run, _evaluate_best(run, store, split, device).predictions, ensemble.raw) for run in runs]
    found = combine_results(results, ensemble.weights)
    found.save(ensemble.folder, split, ensemble.task, made_from, open_faces(data))
    return found, results


def _evaluate_best(run: Run, store: FeatureStore, split: str, device: str) -> Evaluation:
    run.check_store(store)
    config, task = run.config, get_task(run.config.task)
    place = pick_device(device)
    model = best_model(run, place)
    return evaluate_head(model, load_split(config, store, split), task, config.length, place)


def submit(
    answering: Run | Ensemble,
    store: FeatureStore,
    wanted: Sample | VideoList,
    out: Path | None = None,
    device: str = "auto",
    data: Path | None = None,
    allow_missing: bool = False,
    raw: bool = False,
) -> Submission:
    """Predict every row of an official sample file by a run, or an ensemble; see `write_submission`.

    Args:
        wanted: what `abaw.evaluate.submission.formats.read_sample` gives.
        out: by default `predictions.txt`, or the folder `predictions` where the sample is a list of videos.
        raw: leave out the post-processing that the runs have.
    """
    runs = answering.runs() if isinstance(answering, Ensemble) else [answering]
    weights = answering.weights if isinstance(answering, Ensemble) else None
    raw = raw or (isinstance(answering, Ensemble) and answering.raw)
    task = get_task(runs[0].config.task)
    out = out or default_out(wanted)
    check_fits(task, wanted, out)
    answerers = [_answerer(run, store, device, raw) for run in runs]
    return write_submission(answerers, task, store, wanted, out, data, allow_missing, weights)


def _answerer(run: Run, store: FeatureStore, device: str, raw: bool) -> Answerer:
    """A run's best checkpoint, and what comes after it."""
    run.check_store(store)
    config, place = run.config, pick_device(device)
    tuning = None if raw else load_tuning(run)
    model = best_model(run, place)

    def predict_table(table: Table) -> dict[str, VideoPrediction]:
        found = predict(model, table, config.length, place)
        return tuning.postprocess.apply_to(table.task, found) if tuning else found

    return Answerer(config, predict_table, run.name, tuning)
