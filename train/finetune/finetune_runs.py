"""Fine-tunes runs: from their last checkpoint, or several that differ only in their seed."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from abaw.core.claim_files import claimed
from abaw.core.errors import UsageError, some_of
from abaw.core.progress import Reporter
from abaw.train import multi_process
from abaw.train.checkpoint import save_tensors
from abaw.train.data.forbidden_sets import sets_in
from abaw.train.data.share_of_samples import draw_share
from abaw.train.finetune.encoder_build import SEEN, FirstWeights, build_again, build_first
from abaw.train.finetune.encoder_file import save_encoders
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.memory_errors import check_memory, explaining_memory
from abaw.train.finetune.pixel_model import PixelModel
from abaw.train.finetune.pixel_table import PixelTable, load_pixel_tables
from abaw.train.finetune.still_table import Align, StillFolders, load_still_tables
from abaw.train.loop import TrainingResult, fit
from abaw.train.run_files import INITIAL, LAST
from abaw.train.run_folders import check_free
from abaw.train.runs import Run, all_runs, create_run, open_run
from abaw.train.scoring import OnOutputs, OutputSums, Scoring
from abaw.train.train_progress import TrainProgress
from abaw.train.train_runs import OnResult, interruption_names, names_of, score_on_all, training_on
from abaw.train.warm_start import load_initial_weights

DATA = "data"  # of a feature in the config.json of a run: the folder of its crops
SETS = "images"  # instead: the folders of its sets of still images, by name
SHOWN_IMAGES = 3


@dataclass(frozen=True)
class FinetuneSource:
    """What a fine-tuning takes besides its options.

    Attributes:
        data: folder with the crops and labels, see `abaw.datasets.layouts`.
        first: weights that new runs begin with.
        stills: sets of still images, in place of crops.
    """

    data: Path
    first: FirstWeights
    stills: StillFolders | None = None


def finetune_seeds(
    configs: Sequence[FinetuneConfig],
    source: FinetuneSource,
    runs: Path,
    scoring: Scoring,
    *,
    name: str | None = None,
    stem: str = "",
    device: str = "auto",
    reporter: Reporter | None = None,
    resume: bool = False,
    on_result: OnResult | None = None,
) -> list[tuple[Run, TrainingResult]]:
    """Fine-tune one run for each config; they differ in their seed only, so labels are read once.

    Args:
        name, stem, resume, on_result: see `abaw.train.train_runs.train_seeds`.

    Raises:
        UsageError: options, backbones or data that do not fit.
        AbawError: the loss or an output is not finite.
    """
    names = names_of(configs, name)
    with training_on(configs[0], device, reporter) as (torch_device, reporter):
        if not resume:
            multi_process.from_first(lambda: _check_free(runs, names))
        check_memory(configs[0], torch_device)
        tables = _load(configs[0], source.data, source.stills, reporter)
        results = []
        for config, run_name in zip(configs, names, strict=True):
            with ExitStack() as claims:
                run = _open(config, source, runs, run_name, stem, resume, claims)
                result = _finetune(run, tables, scoring, torch_device, reporter, on_result)
            results.append((run, result))
        return results


def finetune_run(
    run: Run,
    data: Path,
    scoring: Scoring,
    device: str = "auto",
    reporter: Reporter | None = None,
    on_result: OnResult | None = None,
    align: Align | None = None,
) -> TrainingResult:
    """Continue a run from its last checkpoint; raises like `finetune_seeds`.

    Args:
        data: the folder of its crops; sets of still images are read from where they were.
        align: see `StillFolders`.
    """
    with training_on(run.config, device, reporter) as (torch_device, reporter), ExitStack() as claims:
        multi_process.from_first(lambda: claims.enter_context(claimed(run.folder)))
        check_memory(_config(run), torch_device)
        folders = sets_of(run)
        tables = _load(_config(run), data, StillFolders(folders, align) if folders else None, reporter)
        return _finetune(run, tables, scoring, torch_device, reporter, on_result)


def _check_free(runs: Path, names: Sequence[str | None]) -> None:
    for name in names:
        if name:
            check_free(runs / name)


def _config(run: Run) -> FinetuneConfig:
    if not isinstance(run.config, FinetuneConfig):
        raise UsageError(
            f"Run {run.name} was trained on features. Continue it with `abaw train --resume --run {shlex.quote(run.name)}`."
        )
    return run.config


def data_of(run: Run, data: Path | None = None) -> Path:
    """The folder with the images of a fine-tuned run: `data`, or that of its training."""
    return data or Path(next(iter(run.features.values()))[DATA])


def sets_of(run: Run) -> dict[str, Path]:
    """The folders of the sets of still images that a run was fine-tuned on, by name; empty for one on crops."""
    return {name: Path(folder) for name, folder in next(iter(run.features.values())).get(SETS, {}).items()}


def _load(
    config: FinetuneConfig, data: Path, stills: StillFolders | None, reporter: Reporter
) -> tuple[PixelTable, PixelTable]:
    splits = ("train", "val")
    if stills is not None:
        train, validation = load_still_tables(config, stills, splits, reporter)
    else:
        train, validation = load_pixel_tables(config.own_task, config.fold, data, splits, reporter, config.invalid_as)
    validation.rows_per_batch = config.shown_images
    return train, validation


def _open(
    config: FinetuneConfig,
    source: FinetuneSource,
    runs: Path,
    name: str | None,
    stem: str,
    resume: bool,
    claims: ExitStack,
) -> Run:
    """The run to resume, or a new one; the same in all processes, and claimed by the first."""

    def find_or_create() -> Path:
        started = _find_started(config, runs, name) if resume else None
        folder = (started or _start(config, source, runs, name, stem)).folder
        claims.enter_context(claimed(folder))
        return folder

    return open_run(multi_process.from_first(find_or_create))


def _find_started(config: FinetuneConfig, runs: Path, name: str | None) -> Run | None:
    matches = [run for run in all_runs(runs) if run.config.of_training() == config.resolved().of_training()]
    return next((run for run in reversed(matches) if name in (None, run.name)), None)


def _start(config: FinetuneConfig, source: FinetuneSource, runs: Path, name: str | None, stem: str) -> Run:
    model, features = build_first(config, source.first)
    where: dict[str, Any]
    if source.stills is not None:
        where = {SETS: {name: str(folder.absolute()) for name, folder in source.stills.folders.items()}}
    else:
        where = {DATA: str(source.data.absolute())}
    own = sets_in(source.data, () if source.stills is None else tuple(source.stills.folders))
    for described in features.values():
        described |= {**where, SEEN: sorted({*described[SEEN], *own})}

    def fill(folder: Path) -> Mapping[str, Any]:
        save_tensors(folder / INITIAL, model.state_dict(), {})
        return {}

    return create_run(runs, config, features, name, stem or f"{config.task}-{'+'.join(config.features)}-pixels", fill)


def _finetune(
    run: Run,
    tables: tuple[PixelTable, PixelTable],
    scoring: Scoring,
    device: torch.device,
    reporter: Reporter,
    on_result: OnResult | None,
) -> TrainingResult:
    config, (table, validation) = _config(run), tables
    model = build_again(run)
    load_initial_weights(model, run.folder)
    model.freeze_unused()
    model.to(device)
    result = _fit(run, config, model, table, validation, scoring, device, reporter)
    if multi_process.rank() == 0:
        folders = [str(folder) for folder in sets_of(run).values()] or [str(data_of(run))]
        save_encoders(run, table.videos, ", ".join(folders))
        if (run.folder / LAST).is_file():
            (run.folder / INITIAL).unlink(missing_ok=True)
        if broken := [*table.broken.values(), *validation.broken.values()]:
            reporter.warn(f"{len(broken)} images cannot be read and were left out: {some_of(broken, SHOWN_IMAGES)}")
        if on_result is not None:
            on_result(run, result)
    return result


def _fit(
    run: Run,
    config: FinetuneConfig,
    model: PixelModel,
    table: PixelTable,
    validation: PixelTable,
    scoring: Scoring,
    device: torch.device,
    reporter: Reporter,
) -> TrainingResult:
    task = run.task
    progress = TrainProgress(reporter, f"finetune {run.name}", task, config.epochs)
    drawn = draw_share(validation, config.length, config.eval_share, (config.seed,))

    def measures(trained: nn.Module, on_outputs: OnOutputs) -> Mapping[str, float]:
        return scoring.validate(trained, drawn, config, device, progress.validating(), on_outputs)

    on_epoch, on_step, sums = progress.on_epoch, progress.on_step, OutputSums(task, scoring)
    with interruption_names(run), explaining_memory(run.name, config, device):
        result = fit(config, task, model, table, measures, run.folder, device, on_epoch, on_step, sums)
        result = score_on_all(result, run, model, validation, scoring, device, progress.validating())
    progress.finish()
    return result
