"""Preparation of a training: its features and options, its videos, and the folder of its run."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from abaw.core.errors import UsageError
from abaw.core.progress import Reporter
from abaw.core.tasks import recorded_task
from abaw.store import FeatureStore
from abaw.store.writer import QUALITY
from abaw.train.config import TrainConfig, make_config
from abaw.train.data.frame_labels import read_frame_labels
from abaw.train.data.quality_weights import quality_weights
from abaw.train.data.samples import counted_labels
from abaw.train.data.table import OnRead, Table, fill_invalid, load_table, select_labels
from abaw.train.data.windows import class_counts
from abaw.train.losses import create_loss
from abaw.train.model import check_size
from abaw.train.recipes import Recipe
from abaw.train.run_files import CONFIG
from abaw.train.runs import Run, all_runs, check_run_name, create_run, open_run
from abaw.train.warm_start import InitialWeights, read_initial_weights


def pick_features(store: FeatureStore, features: Sequence[str]) -> tuple[str, ...]:
    """The features asked for, or the only one of the store.

    Raises:
        UsageError: one is missing, or none was requested and the store does not have exactly one.
    """
    for feature in features:
        store.feature_attrs(feature)
    if features:
        return tuple(features)
    known = store.features()
    if len(known) != 1:
        have = (
            f"has {len(known)} features: {', '.join(known)}. Choose with --feature"
            if known
            else "has no features yet. Run `abaw extract`"
        )
        raise UsageError(f"{store.path} {have}.")
    return tuple(known)


def make_train_config(
    store: FeatureStore | None,
    task: str | None,
    features: Sequence[str],
    values: Mapping[str, Any],
    settings: Sequence[str],
    recipe: Recipe | None = None,
) -> TrainConfig:
    """A config for features of a store: the recipe's options, then `values`, then `key=value` settings.

    Without a store, features or a recipe are needed, and it is not checked whether any store has the features.

    Raises:
        UsageError: options that do not fit, or features that the store does not have.
    """
    base = dict(recipe.values) if recipe else {}
    if recipe:
        recipe.check_kind(pixels=False)
    if recipe and task not in (None, base["task"]):
        raise UsageError(f"Recipe {recipe.name} is for task {base['task']}, not {task}. Leave out --task.")
    base["task"] = task or base.get("task")
    if base["task"] is None:
        raise UsageError("Choose a task with --task (`abaw list tasks` shows them), or use a --recipe.")
    if task is not None:
        base.pop("task_record", None)  # the recipe's
    recorded_task(base["task"], base.get("task_record"))
    if features or not recipe:
        base["features"] = tuple(features) if store is None else pick_features(store, features)
    config = make_config({**base, **values}, settings)
    if store is not None:
        _check_features(config, store, None if features else recipe)
        _check_fits(config, store)
    return config


def _check_features(config: TrainConfig, store: FeatureStore, recipe: Recipe | None) -> None:
    """Raise a UsageError if a store lacks features of a config; `recipe` is where their names come from."""
    known = store.features()
    missing = [name for name in config.all_features() if name not in known]
    if missing and recipe and recipe.extract:
        commands = " and ".join(f"`{command}`" for command in recipe.extract)
        raise UsageError(
            f"Recipe {recipe.name} needs {', '.join(missing)}, which {store.path} does not have. Extract them with "
            f"{commands}, or choose others with --feature."
        )
    for name in missing:
        store.feature_attrs(name)  # its error says what to do


def with_seeds(config: TrainConfig, n_seeds: int) -> list[TrainConfig]:
    """Copies of the config with consecutive seeds, starting at its own.

    Raises:
        UsageError: a seed is too large.
    """
    return [make_config(config.model_dump() | {"seed": config.seed + number}) for number in range(n_seeds)]


def feature_shapes(config: TrainConfig, store: FeatureStore) -> dict[str, tuple[int, ...]]:
    """Shape of one frame of each feature that evaluation takes, as in the store; see `Run.shapes`."""
    return {name: tuple(store.feature_attrs(name)["spec"]["shape"]) for name in config.features}


def _check_fits(config: TrainConfig, store: FeatureStore) -> None:
    """Build head and loss once, so that a bad combination fails before anything is loaded or written."""
    task = config.own_task
    check_size(config, feature_shapes(config, store))
    no_labels = np.zeros((0, len(task.columns)), dtype=np.float32)
    create_loss(config.loss, task, no_labels, no_labels.astype(np.bool_))


def start_run(
    config: TrainConfig,
    store: FeatureStore,
    runs: Path,
    name: str | None = None,
    stem: str = "",
    init: InitialWeights | None = None,
) -> Run:
    """Create the folder of a new run on the store's features; see `create_run`.

    Args:
        init: weights that it begins with.
    """

    def fill(folder: Path) -> dict[str, Any]:
        if init is None:
            return {}
        init.write(folder)
        return {"init": init.record()}

    return create_run(runs, config, _describe_features(config, store), name, stem, fill)


def initial_weights(config: TrainConfig, store: FeatureStore, runs: Path, source: str) -> InitialWeights:
    """Weights for a new run on the store's features; see `read_initial_weights`."""
    return read_initial_weights(source, runs, config, feature_shapes(config, store))


def find_started_run(config: TrainConfig, store: FeatureStore, runs: Path, name: str | None = None) -> Run | None:
    """The run to resume: the one called `name`, or else the newest with exactly this config and these features.

    Raises:
        UsageError: the run has other options, or the name is not a valid folder name.
        StoreError: it was trained on other features than those of the store.
    """
    config = config.resolved()
    if name is None:
        features = _describe_features(config, store)
        matches = [
            run
            for run in all_runs(runs)
            if run.config.of_training() == config.of_training() and _are_same(run.features, features)
        ]
        return matches[-1] if matches else None
    check_run_name(name)
    folder = runs / name
    if not (folder / CONFIG).is_file():
        return None
    run = open_run(folder)
    if run.config.of_training() != config.of_training():
        options, run_options = config.model_dump(), run.config.model_dump()
        changed = ", ".join(key for key in options if options[key] != run_options[key])
        raise UsageError(
            f"Run {folder} was started with other options: {changed}. Use those in its {CONFIG}, or choose another --run."
        )
    run.check_store(store, training=True)
    return run


def _are_same(features: Mapping[str, Mapping[str, Any]], others: Mapping[str, Mapping[str, Any]]) -> bool:
    """True if two runs are on the same features; older runs have no records."""
    first, second = (
        {name: (feature["fingerprint"], list(feature["shape"])) for name, feature in described.items()}
        for described in (features, others)
    )
    return first == second


def _describe_features(config: TrainConfig, store: FeatureStore) -> dict[str, dict[str, Any]]:
    """Fingerprint and shape of the features that a config takes, and their record where it is known."""
    described: dict[str, dict[str, Any]] = {}
    for feature in config.all_features():
        attrs = store.feature_attrs(feature)
        record = store.feature_record(feature)
        description = {"fingerprint": attrs["fingerprint"], "shape": attrs["spec"]["shape"]}
        described[feature] = description if record is None else {**description, "record": record}
    return described


def load_split(config: TrainConfig, store: FeatureStore, split: str, reporter: Reporter | None = None) -> Table:
    """The videos of a split, with the features that evaluation takes."""
    task = config.own_task
    labels = select_labels(store, task, split, config.fold)
    label, quality = f"load {split}", config.min_quality
    return load_table(store, task, labels, config.features, config.missing, reporter, label, min_quality=quality)


def load_tables(
    config: TrainConfig,
    store: FeatureStore,
    reporter: Reporter | None = None,
    on_read: OnRead | None = None,
) -> tuple[Table, Table]:
    """Training and validation videos of a config.

    Args:
        on_read: called with the features of the training videos, see `load_table`.

    Raises:
        UsageError: there are no such videos, no frame has both a label and a feature, or a window is longer than every video.
    """
    task = config.own_task
    labels = select_labels(store, task, "train", config.fold, synthetic=config.synthetic > 0)
    if config.invalid_as:
        labels = fill_invalid(task, labels, task.outputs.index(config.invalid_as))
    features = config.training_features()
    quality = config.min_quality
    table = load_table(store, task, labels, features, config.missing, reporter, "load train", on_read, quality)
    if not counted_labels(table)[2].any():
        if quality:
            raise UsageError(
                f"None of the {len(table.videos)} training videos has a frame with labels of {task.name} and a crop of quality "
                f"{quality:g} or more. Lower it with --set min_quality={quality / 2:g}."
            )
        raise UsageError(
            f"None of the {len(table.videos)} training videos has a frame with both labels of {task.name} and a feature. "
            "`abaw doctor` shows what is missing, and `abaw store info` what was extracted."
        )
    if quality and reporter and not any(v.get(QUALITY) for name in features for v in store.videos(name).values()):
        reporter.warn(
            f"min_quality={quality:g} masks no frame: {store.path} does not know how good its crops are. Crops of "
            "`abaw prepare` have a quality."
        )
    table = _with_frames(config, store, table, reporter)
    longest = int((table.starts[1:] - table.starts[:-1]).max())
    if config.length > longest:
        raise UsageError(
            f"A window of {config.length} frames is longer than every training video; the longest has {longest}. "
            f"Use --set window={longest} or fewer."
        )
    return table, load_split(config, store, "val", reporter)


def _with_frames(config: TrainConfig, store: FeatureStore, table: Table, reporter: Reporter | None) -> Table:
    """The training videos with what a config says of the loss of frames: their labels in whole videos, their weights."""
    if config.frame_labels:
        name = config.frame_labels
        frames = read_frame_labels(store, table.task, name, table.masks, table.videos, table.starts)
        table = replace(table, frame_labels=frames)
        if not (frames.valid.any(axis=1) & table.present()).any():
            raise UsageError(
                f"None of the {len(table.videos)} training videos has a frame with both a label of {config.frame_labels} and a "
                "feature. Extract their frames, or leave out --set frame_labels=..."
            )
    if config.weigh_by == "none":
        return table
    counted = (table.frame_labels or table).valid.any(axis=1) & table.present()
    weights = quality_weights(store, table, counted)
    if weights is None and reporter:
        reporter.warn(
            f"weigh_by={config.weigh_by} weighs no frame: {store.path} does not know how good its crops are. Crops of "
            "`abaw prepare` have a quality."
        )
    return replace(table, weights=weights)


def notes_on(table: Table) -> list[str]:
    """Warnings about classes or action units that never occur in the training labels."""
    never = [name for name, count in class_counts(table).items() if count == 0]
    if not never:
        return []
    return [f"No training frame shows {', '.join(never)}: the head cannot learn it, and it counts as F1 0."]
