"""Trains runs: one from its last checkpoint, or several that differ only in their seed."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from abaw.core.claim_files import claimed
from abaw.core.devices import pick_device
from abaw.core.errors import UsageError
from abaw.core.progress import Interrupted, Reporter, Silent, Ticker
from abaw.store import FeatureStore
from abaw.train import multi_process
from abaw.train.checkpoint import load_weights, save_tensors
from abaw.train.config import TrainConfig
from abaw.train.data.on_device import place
from abaw.train.data.samples import ScoredSamples
from abaw.train.data.seen_videos import warn_of_seen
from abaw.train.data.share_of_samples import draw_share
from abaw.train.data.statistics import MomentsOnLoading, feature_statistics
from abaw.train.data.table import Table
from abaw.train.fit_probes import fit_probe
from abaw.train.head_options import LogisticConfig, RidgeConfig
from abaw.train.loop import TrainingResult, fit
from abaw.train.model import Model, build_model, standardised_features
from abaw.train.new_run import feature_shapes, find_started_run, load_tables, notes_on, start_run
from abaw.train.run_files import BEST
from abaw.train.run_folders import check_free
from abaw.train.runs import Run, open_run
from abaw.train.scoring import OnOutputs, OutputSums, Scoring, ignore_outputs
from abaw.train.train_progress import TrainProgress, Validating
from abaw.train.training_precision import check_precision
from abaw.train.warm_start import InitialWeights, load_initial_weights

OnResult = Callable[[Run, TrainingResult], None]
Statistics = tuple[dict[str, Tensor], dict[str, Tensor]]  # of what a model standardises, see `feature_statistics`


def train_run(
    run: Run,
    store: FeatureStore | None,
    scoring: Scoring,
    tables: tuple[Table, Table] | None = None,
    device: str = "auto",
    reporter: Reporter | None = None,
    on_result: OnResult | None = None,
) -> TrainingResult:
    """Train a run's head from its last checkpoint, or from the start; see `abaw.train.loop.fit`.

    Under torchrun every process calls this and runs the same epochs; only the first one writes and reports.

    Args:
        tables: training and validation videos; by default those of the run's config.
        on_result: called at the end, only in the first process.

    Raises:
        StoreError: the run was trained on other features than those of the store.
        AbawError: the loss or an output is not finite.
    """
    if run.config.is_of_pixels:
        raise UsageError(
            f"Run {run.name} is fine-tuned on pixels: `abaw finetune --resume --run {shlex.quote(run.name)}`."
        )
    assert store is not None, "only runs on pixels need none"
    with (
        training_on(run.config, device, reporter) as (torch_device, reporter),
        interruption_names(run),
        ExitStack() as claims,
    ):
        multi_process.from_first(lambda: claims.enter_context(claimed(run.folder)))
        run.check_store(store, training=True)
        if tables is None:
            tables, statistics = _load(run.config, store, reporter)
        else:
            statistics = _statistics(store, standardised_features(run.config, run.shapes), tables[0])
        tables = _placed(tables, run.config, torch_device)
        return _train_on(tables, statistics, run, scoring, torch_device, reporter, on_result)


def _load(config: TrainConfig, store: FeatureStore, reporter: Reporter) -> tuple[tuple[Table, Table], Statistics]:
    """The tables of a config, and statistics of what its model will standardise, taken while they are loaded."""
    standardised, held = standardised_features(config, feature_shapes(config, store)), config.training_features()
    moments = MomentsOnLoading([name for name in standardised if name in held])
    tables = load_tables(config, store, reporter, moments.add)
    return tables, _statistics(store, standardised, tables[0], moments)


def _placed(tables: tuple[Table, Table], config: TrainConfig, device: torch.device) -> tuple[Table, Table]:
    """The tables on the device of this process, if it is a GPU and they fit; probes are fitted on the CPU."""
    if config.head.is_probe:
        return tables
    return place(tables[0], device), place(tables[1], device)


def _statistics(
    store: FeatureStore, features: Sequence[str], table: Table, loaded: MomentsOnLoading | None = None
) -> Statistics:
    """Means and standard deviations of features over the training videos that are real."""
    real = [video for video, is_synthetic in zip(table.videos, table.synthetic, strict=True) if not is_synthetic]
    return feature_statistics(store, features, real, loaded=loaded)


@contextmanager
def interruption_names(run: Run) -> Iterator[None]:
    """Ctrl-C and SIGTERM raise an Interrupted, from which a run continues even where nothing of it is trained."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(run.name) from error


def _train_on(
    tables: tuple[Table, Table],
    statistics: Statistics,
    run: Run,
    scoring: Scoring,
    device: torch.device,
    reporter: Reporter,
    on_result: OnResult | None,
) -> TrainingResult:
    table, validation = tables
    model = build_model(run)
    model.set_statistics(*statistics)
    if isinstance(run.config.head, RidgeConfig | LogisticConfig):
        result = _fit_probe(run, run.config.head, model, table, validation, scoring, reporter)
    else:
        load_initial_weights(model, run.folder)
        result = _fit(run, model, table, validation, scoring, device, reporter)
    if on_result is not None and multi_process.rank() == 0:
        on_result(run, result)
    return result


def _fit(
    run: Run,
    model: Model,
    table: Table,
    validation: Table,
    scoring: Scoring,
    device: torch.device,
    reporter: Reporter,
) -> TrainingResult:
    config, task = run.config, run.task
    model.to(device)
    progress = TrainProgress(reporter, f"train {run.name}", task, config.epochs)

    drawn = draw_share(validation, config.length, config.eval_share, (config.seed,))

    def measures(trained: nn.Module, on_outputs: OnOutputs) -> Mapping[str, float]:
        return scoring.validate(trained, drawn, config, device, progress.validating(), on_outputs)

    on_epoch, on_step, sums = progress.on_epoch, progress.on_step, OutputSums(task, scoring)
    result = fit(config, task, model, table, measures, run.folder, device, on_epoch, on_step, sums)
    result = score_on_all(result, run, model, validation, scoring, device, progress.validating())
    progress.finish()
    return result


def score_on_all(
    result: TrainingResult,
    run: Run,
    model: nn.Module,
    validation: ScoredSamples,
    scoring: Scoring,
    device: torch.device,
    reporter: Reporter,
) -> TrainingResult:
    """The result with the score of the best model on all validation videos, if only a share was scored in training."""
    if run.config.eval_share == 1:
        return result
    multi_process.wait()  # until the first process has written the best model
    load_weights(model, run.folder / BEST)
    measures = scoring.validate(model, validation, run.config, device, reporter, ignore_outputs)
    return replace(result, best_score=measures["score"])


def _fit_probe(
    run: Run,
    head: RidgeConfig | LogisticConfig,
    model: Model,
    table: Table,
    validation: Table,
    scoring: Scoring,
    reporter: Reporter,
) -> TrainingResult:
    task = run.task
    reporter.start(f"fit {run.name}", 1, "probe")
    is_new = not (run.folder / BEST).exists()
    if is_new:
        with Ticker(reporter) as ticker:
            fit_probe(head, task, model, table, run.config.seed, ticker.doing)
    else:
        load_weights(model, run.folder / BEST)
    cpu, validating = torch.device("cpu"), Validating(reporter, "solved")
    score = scoring.validate(model, validation, run.config, cpu, validating, ignore_outputs)["score"]
    if is_new and multi_process.rank() == 0:
        save_tensors(run.folder / BEST, model.state_dict(), {"epoch": "1", "score": repr(score)})
    reporter.advance(1, f"{task.name} {score:.3f}")
    reporter.finish()
    return TrainingResult(score, 1, 1)


def train_seeds(
    configs: Sequence[TrainConfig],
    store: FeatureStore,
    runs: Path,
    scoring: Scoring,
    *,
    name: str | None = None,
    stem: str = "",
    device: str = "auto",
    reporter: Reporter | None = None,
    resume: bool = False,
    on_result: OnResult | None = None,
    init: InitialWeights | None = None,
) -> list[tuple[Run, TrainingResult]]:
    """Train one run for each config. The configs differ in their seed only, so the videos and their statistics are read once.

    Args:
        name, stem: of the runs, see `create_run`; with several configs `-seed<seed>` is appended to the name.
        resume: continue runs that were started, see `find_started_run`; finished ones do not change.
        on_result: called after each run, only in the first process.
        init: weights that new runs begin with.
    """
    names = names_of(configs, name)
    with training_on(configs[0], device, reporter) as (torch_device, reporter):
        multi_process.from_first(lambda: _check(configs, store, runs, names, resume))
        tables, statistics = _load(configs[0], store, reporter)
        seen = warn_of_seen(store, configs[0].features, tables[1].videos, "val")
        for note in [*notes_on(tables[0]), *seen]:
            reporter.warn(note)
        if init is not None and init.problems:
            reporter.warn(
                f"Not all tensors of {init.source} fit the new head, which begins without them: {init.problems}."
            )
        tables = _placed(tables, configs[0], torch_device)
        results = []
        for config, run_name in zip(configs, names, strict=True):
            with ExitStack() as claims:
                run = _open(config, store, runs, run_name, stem, resume, init, claims)
                with interruption_names(run):
                    run.check_store(store, training=True)
                    result = _train_on(tables, statistics, run, scoring, torch_device, reporter, on_result)
            results.append((run, result))
        return results


def names_of(configs: Sequence[TrainConfig], name: str | None) -> list[str | None]:
    """The name of the run of each config: that of the only one, or one for each seed; None where a name is not chosen."""
    return [f"{name}-seed{config.seed}" if name and len(configs) > 1 else name for config in configs]


@contextmanager
def training_on(config: TrainConfig, device: str, reporter: Reporter | None) -> Iterator[tuple[torch.device, Reporter]]:
    """Join the processes that torchrun started; the device of this one, and its reporter: all but the first are silent.

    Raises:
        UsageError: no such device, or it cannot compute in the precision of the config.
    """
    torch_device = pick_device(device)
    check_precision(config, torch_device)
    with multi_process.processes(torch_device):
        reports = reporter is not None and multi_process.rank() == 0
        yield multi_process.process_device(torch_device), reporter if reporter and reports else Silent()


def _check(
    configs: Sequence[TrainConfig], store: FeatureStore, runs: Path, names: Sequence[str | None], resume: bool
) -> None:
    """Raise errors now rather than hours later, after the first seeds."""
    for config, name in zip(configs, names, strict=True):
        started = find_started_run(config, store, runs, name) if resume else None
        if started is not None or (name and runs.is_dir()):
            folder = started.folder if started is not None else runs / str(name)
            with claimed(folder):  # an error names the process that is at work on it
                if not resume:
                    check_free(folder)


def _open(
    config: TrainConfig,
    store: FeatureStore,
    runs: Path,
    name: str | None,
    stem: str,
    resume: bool,
    init: InitialWeights | None,
    claims: ExitStack,
) -> Run:
    """The run to resume, or a new one; the same in all processes, and claimed by the first."""

    def find_or_create() -> Path:
        started = find_started_run(config, store, runs, name) if resume else None
        folder = (started or start_run(config, store, runs, name, stem, init)).folder
        claims.enter_context(claimed(folder))
        return folder

    return open_run(multi_process.from_first(find_or_create))
