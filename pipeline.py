"""The stages as plain functions: what the command line calls, and notebooks can.

    prepare(PrepareOptions(...))        videos -> crops and sound
    extract(ExtractOptions(...))        crops and labels -> store
    train_seeds(configs, store, runs)   store -> runs, each trained as it is asked for: `for run, result in ...`
    tune(run, store, fit_on)            run and store -> post-processing
    find_predictor(runs, name)          a run or an ensemble, opened
    evaluate(predictor, store, split)   predictor and store -> scores, predictions
    submit(predictor, store, sample)    predictor and store -> submission file

They tell of their progress through a `Reporter` and print nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import nn

from abaw.backbones.backbone import create_backbone
from abaw.backbones.weights import identify
from abaw.core.devices import pick_device
from abaw.core.errors import AbawError, CheckpointError, DataError
from abaw.core.files import clear
from abaw.core.parts import parse_part
from abaw.core.progress import Reporter, Silent, Summary
from abaw.datasets.demo.kinds import get_demo_kind
from abaw.datasets.doctor import VideoReport, examine, report_unread
from abaw.datasets.layouts import look_through, open_dataset
from abaw.evaluate.evaluation import Evaluation
from abaw.evaluate.inference import evaluate_head
from abaw.evaluate.submission.write import write_submission as submit  # noqa: F401  a stage, too
from abaw.evaluate.trained import TrainedRun, evaluate, find_predictor, open_predictor, tune  # noqa: F401  stages, too
from abaw.extract.cluster.cluster import ClusterOptions, workers_have_gpus
from abaw.extract.cluster.driver import run_on_cluster
from abaw.extract.faces.prepare import PrepareOptions, prepare_videos
from abaw.extract.label_writer import describe_labels
from abaw.extract.request import ExtractOptions
from abaw.extract.stage import Stage
from abaw.predict.videos import PredictOptions, predict_video, predict_videos  # noqa: F401  a stage, too
from abaw.store import FeatureStore
from abaw.store.claims import claimed
from abaw.train import multi_process
from abaw.train.checkpoint import load_weights, save_tensors
from abaw.train.config import TrainConfig, make_config
from abaw.train.data.statistics import feature_statistics
from abaw.train.data.table import Table
from abaw.train.fit_probes import fit_probe
from abaw.train.head_options import LogisticConfig, RidgeConfig
from abaw.train.loop import Epoch, TrainingResult, fit
from abaw.train.model import Model, build_model
from abaw.train.new_run import begun_run, load_tables, notes_on, start_run
from abaw.train.run_files import BEST
from abaw.train.runs import Run, check_free, open_run


def extract(
    options: ExtractOptions, reporter: Reporter | None = None, cluster: ClusterOptions | None = None
) -> Summary:
    """Run backbones over all crops and sounds of a dataset; put their features, and all labels, into the store.

    What is complete is skipped; what was cut off is made again. Errors of one video, frame or backbone end up in the
    summary.

    Args:
        cluster: run on the workers of a dask cluster; this process plans, and follows them.

    Raises:
        AbawError: nothing could be begun: no data, unknown backbones, no weights, another fingerprint, another
            extraction of the same features at work.
    """
    reporter = reporter or Silent()
    summary = Summary()
    on_gpu = workers_have_gpus(cluster) if cluster is not None and options.device == "auto" else None
    stage = Stage.open(options, summary.failed_backbones, on_gpu)
    for feature, why in summary.failed_backbones.items():
        reporter.warn(f"{feature} is left out: {why}")
    with claimed(stage.store, [feature.name for feature in stage.features], options.part):
        plan = stage.plan(summary, reporter)
        for note in stage.notes:
            reporter.warn(note)
        if not options.part or parse_part(options.part)[0] == 1:  # the labels are of the first part
            reporter.warn(describe_labels(stage.dataset))
        reporter.start("extract", plan.n_frames, "frames")
        if cluster is None:
            stage.run(plan.groups, summary, reporter.advance)
        elif plan.groups:
            run_on_cluster(stage, plan, cluster, summary, reporter)
    reporter.finish()
    return summary


def prepare(options: PrepareOptions, reporter: Reporter | None = None) -> Summary:
    """Write crops, sound and tables of the faces of videos into a dataset; see `prepare_videos`."""
    return prepare_videos(options, reporter or Silent())


def check_weights(file: Path) -> list[tuple[str, str, str]]:
    """Backbones that a weights file fits, best first: name, fingerprint of its feature, notes on how it was made to fit.

    Raises:
        CheckpointError: the file cannot be read, or fits none.
    """
    names = identify(file)
    if not names:
        raise CheckpointError(
            f"{file} fits no backbone of `abaw list backbones`. For a model of timm, extract with "
            f"`--backbone timm/<model>:{file}`."
        )
    found = []
    for name in names:
        backbone = create_backbone(name, file)
        found.append((name, backbone.fingerprint(backbone.spec), "; ".join(backbone.notes) or "-"))
    return found


def doctor(data: Path, fps: float | None = None, reporter: Reporter | None = None) -> list[VideoReport]:
    """Check data against labels: every crop is decoded, every label read. See `VideoReport`."""
    reporter = reporter or Silent()
    try:
        dataset = open_dataset(data, fps)
    except DataError:
        with suppress(DataError):  # where nothing is read, that is what helps
            for report in report_unread(look_through(data, fps)):
                reporter.warn(f"Not read: {report.warnings[0]}.")
        raise
    dataset.time_videos(dataset.videos, reporter)
    reporter.start("doctor", len(dataset.videos), "videos")
    reports = examine(dataset, reporter.advance)
    reporter.finish()
    return reports


def train(
    run: Run, store: FeatureStore, tables: tuple[Table, Table], device: str = "auto", reporter: Reporter | None = None
) -> TrainingResult:
    """Train a run's head from where its folder stands; see `abaw.train.loop.fit`.

    Under torchrun every process calls this; all of them go through the same epochs, and the first one writes.
    """
    reporter = reporter or Silent()
    config, task = run.config, run.task
    table, validation = tables
    model = build_model(run)
    real = [video for video, made in zip(table.videos, table.synthetic, strict=True) if not made]
    model.set_statistics(*feature_statistics(store, model.standardised(), real))
    if isinstance(config.head, RidgeConfig | LogisticConfig):
        return _fit_probe(run, model, table, validation, reporter)
    place = multi_process.own_device(pick_device(device))
    model.to(place)
    reporter.start(f"train {run.name}", config.epochs, "epochs")

    def validate(trained: nn.Module) -> float:
        found = evaluate_head(trained, validation, config.length, place)
        is_finite = all(np.isfinite(video.outputs).all() for video in found.predictions.values())
        return found.official.score if is_finite else float("nan")

    def on_epoch(epoch: Epoch) -> None:
        reporter.advance(1, f"loss {epoch.loss:.3f}, {task.name} {epoch.score:.3f}")

    result = fit(config, task, model, table, validate, run.folder, place, on_epoch)
    reporter.finish()
    return result


def _fit_probe(run: Run, model: Model, table: Table, validation: Table, reporter: Reporter) -> TrainingResult:
    config, task = run.config, run.task
    assert isinstance(config.head, RidgeConfig | LogisticConfig)
    reporter.start(f"fit {run.name}", 1, "probe")
    is_new = not (run.folder / BEST).exists()
    if is_new:
        fit_probe(config.head, task, model, table, config.seed)
    else:
        load_weights(model, run.folder / BEST)
    found = evaluate_head(model, validation, config.length, torch.device("cpu")).official.score
    if is_new and multi_process.rank() == 0:
        save_tensors(run.folder / BEST, model.state_dict(), {"epoch": "1", "score": repr(found)})
    reporter.advance(1, f"{task.name} {found:.3f}")
    reporter.finish()
    return TrainingResult(found, 1, 1)


def train_seeds(
    configs: Sequence[TrainConfig],
    store: FeatureStore,
    runs: Path,
    name: str | None = None,
    stem: str = "",
    device: str = "auto",
    reporter: Reporter | None = None,
    resume: bool = False,
) -> Iterator[tuple[Run, TrainingResult]]:
    """Train one run for each config; the tables are loaded once for configs that differ in their seed only.

    Args:
        name, stem: of the runs, see `create_run`; with several configs `-seed<seed>` follows on the name.
        resume: go on with the runs that were begun, see `begun_run`; those that are finished stay as they are.
    """
    reporter = reporter or Silent()
    names = [f"{name}-seed{config.seed}" if name and len(configs) > 1 else name for config in configs]

    def check() -> None:
        if resume:
            for config, named in zip(configs, names, strict=True):
                begun_run(config, store, runs, named)
        else:
            check_free([runs / named for named in names if named])

    multi_process.from_first(check)  # rather now than after hours of the first seeds
    tables = load_tables(configs[0], store)
    for note in notes_on(tables[0]):
        reporter.warn(note)
    for config, named in zip(configs, names, strict=True):
        run = _open(config, store, runs, named, stem, resume)
        yield run, train(run, store, tables, device, reporter)


def _open(config: TrainConfig, store: FeatureStore, runs: Path, name: str | None, stem: str, resume: bool) -> Run:
    """The run that was begun, if that is to be resumed, or a new one; the same in all processes."""

    def find_or_make() -> Path:
        begun = begun_run(config, store, runs, name) if resume else None
        return (begun or start_run(config, store, runs, name, stem)).folder

    return open_run(multi_process.from_first(find_or_make))


def demo(
    out: Path,
    size: str = "small",
    seed: int = 0,
    device: str = "auto",
    reporter: Reporter | None = None,
    kind: str = "aff-wild2",
) -> Iterator[tuple[Run, Evaluation]]:
    """Make a demo dataset and take it through all stages; what an earlier call finished is kept.

    Args:
        kind: the layout of the dataset, a name of `DEMO_KINDS`.

    Yields:
        The run and the validation scores of each task.
    """
    reporter = reporter or Silent()
    made = get_demo_kind(kind)
    data, partial = out / "data", out / "data.partial"
    if not data.exists():
        clear(partial)
        reporter.start("draw faces", made.n_frames(size, seed), "frames")
        made.write(partial, size, seed, reporter.advance)
        reporter.finish()
        partial.rename(data)
    summary = extract(ExtractOptions(data, out / "store.zarr", ("hog",), device=device), reporter)
    if not summary.ok:
        raise AbawError(
            f"The demo's extraction did not finish: {summary.stopped.sentence if summary.stopped else summary.failed}. Run it again."
        )
    store = FeatureStore.open(out / "store.zarr")
    for task, head in made.heads.items():
        config = make_config({"task": task, "features": ("hog",), "head": {"name": head}})
        for run, _ in train_seeds([config], store, out / "runs", device=device, reporter=reporter, resume=True):
            yield run, evaluate(TrainedRun.open(run, device), store, "val", data)
