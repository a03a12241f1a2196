"""The steps of a recipe, and which of them are done: known by the contents of store and runs, not by a log."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from abaw.core.errors import AbawError, UsageError
from abaw.core.files import Place
from abaw.core.json_files import read_json
from abaw.core.names import how_to_make
from abaw.evaluate.postprocessing.postprocess import FitMethod
from abaw.evaluate.postprocessing.postprocess_options import method_of
from abaw.evaluate.postprocessing.tuning import POSTPROCESS, load_tuning
from abaw.evaluate.predictions import read_made_from
from abaw.extract.forecast import FeatureForecast, forecast_extraction
from abaw.extract.request import ExtractOptions, Request
from abaw.store import FeatureStore
from abaw.train.config import TrainConfig
from abaw.train.new_run import find_started_run, make_train_config, with_seeds
from abaw.train.recipes import Recipe, load_recipe
from abaw.train.run_files import predictions_file, scores_file
from abaw.train.runs import Run

SPLIT = "val"
StepName = Literal["extract", "train", "tune", "eval", "ensemble", "report"]


@dataclass(frozen=True)
class RecipeOptions:
    """A recipe, and where its data, store and runs are.

    Attributes:
        recipe: a name, or the path of a `.toml` file.
        n_seeds: runs on the official split.
        n_folds: 0, or at least 2: also a run on each of so many folds, on which post-processing is fitted.
        settings: `KEY=VALUE`, as `abaw train --set` takes them.
        backbones: `[NAME=]BACKBONE[:WEIGHTS]` in place of those in the recipe with the same feature.
    """

    recipe: str
    data: Path
    store: Place
    runs: Path
    n_seeds: int = 1
    n_folds: int = 0
    device: str = "auto"
    settings: tuple[str, ...] = ()
    backbones: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A step of a recipe.

    Attributes:
        about: feature, or run and config.
        is_done: nothing is missing.
        needs: what a person has to do before it can start; empty if nothing.
    """

    name: StepName
    about: str
    is_done: bool
    needs: str = ""


@dataclass(frozen=True)
class RecipeRun:
    """A run of the recipe: its config, and the run once it was started."""

    config: TrainConfig
    run: Run | None

    @property
    def about(self) -> str:
        """Seed and fold, and the name of the run."""
        what = f"fold {self.config.fold}" if self.config.fold else f"seed {self.config.seed}"
        return f"{what}: {self.run.name}" if self.run else what

    @property
    def is_trained(self) -> bool:
        """True if no epoch is left to train."""
        return self.run is not None and self.run.is_trained

    def is_tuned(self, has_folds: bool) -> bool:
        """True if the post-processing is that of the checkpoint, and of the recipe or on folds where there are any."""
        try:
            tuning = load_tuning(self.run) if self.run and self.is_trained else None
        except AbawError:
            return False
        method = method_of(self.config)
        if tuning is None or ((method.prefer or method.fit_rest) and not _is_same(tuning.method, method)):
            return False
        if method.is_given:
            return tuning.fit_on == "nothing" and tuning.method.given == method.given
        return tuning.fit_on == "folds" or not has_folds

    @property
    def is_scored(self) -> bool:
        """True if there are scores of the current checkpoint and post-processing."""
        if self.run is None or not self.is_trained:
            return False
        scores, tuned = scores_file(self.run.folder, SPLIT), self.run.folder / POSTPROCESS
        predictions = predictions_file(self.run.folder, SPLIT)
        try:
            is_new = not tuned.exists() or scores.stat().st_mtime_ns >= tuned.stat().st_mtime_ns
            return is_new and _are_scores(scores) and read_made_from(predictions) == self.run.digest()
        except OSError:
            return False


def _is_same(tuned: FitMethod, method: FitMethod) -> bool:
    """True if a fit was made as a recipe wants it, whatever else a store says about the classifier that it prefers."""
    wanted, known = ((one.prefer.feature, one.prefer.above) if one.prefer else None for one in (method, tuned))
    return wanted == known and tuned.given == method.given and (tuned.offsets == method.offsets or not method.fit_rest)


@dataclass(frozen=True)
class RecipePlan:
    """What a recipe takes, and how far it is.

    Attributes:
        extractions: one for each command of the recipe that extracts features.
        runs: on the official split, then on folds.
        report: the file.
    """

    options: RecipeOptions
    recipe: Recipe
    extractions: tuple[ExtractOptions, ...]
    runs: tuple[RecipeRun, ...]
    steps: tuple[Step, ...]
    report: Path

    @property
    def seeds(self) -> tuple[RecipeRun, ...]:
        """Runs on the official split."""
        return tuple(one for one in self.runs if not one.config.fold)

    @property
    def ensemble(self) -> str:
        """Name of the ensemble of the seeds."""
        numbers = "+".join(one.run.name.rpartition("-")[2] for one in self.seeds if one.run)
        return f"{self.recipe.name}-ensemble-{numbers}"


def plan_recipe(options: RecipeOptions) -> RecipePlan:
    """Find out what a recipe takes and which steps are done; computes and writes nothing.

    Raises:
        AbawError: unknown names, or options that do not fit.
    """
    if options.n_folds == 1:
        raise UsageError("One fold cannot be validated on another. Use --folds 2 or more, or leave it out.")
    recipe = load_recipe(options.recipe)
    config = make_train_config(None, None, (), {}, options.settings, recipe)
    extractions = _extractions(recipe, config, options)
    steps = [step for extraction in extractions for step in _extract_steps(extraction, config)]
    configs = [*with_seeds(config, options.n_seeds)]
    for number in range(1, options.n_folds + 1):
        values = {"fold": f"{number}/{options.n_folds}"}
        configs.append(make_train_config(None, None, (), values, options.settings, recipe))
    runs = tuple(RecipeRun(one, None) for one in configs)
    report = options.runs / f"{recipe.name}.html"
    return with_current_runs(RecipePlan(options, recipe, tuple(extractions), runs, tuple(steps), report))


def with_current_runs(plan: RecipePlan) -> RecipePlan:
    """The plan with the runs as they are now, and their steps; those of extraction, which read all data, are kept."""
    extract_steps = [step for step in plan.steps if step.name == "extract"]
    plan = replace(plan, runs=tuple(RecipeRun(one.config, _find_run(one.config, plan.options)) for one in plan.runs))
    return replace(plan, steps=(*extract_steps, *_run_steps(plan)))


def _run_steps(plan: RecipePlan) -> list[Step]:
    has_folds = plan.options.n_folds > 0
    steps = [Step("train", one.about, one.is_trained) for one in plan.runs]
    steps += [Step("tune", one.about, one.is_tuned(has_folds)) for one in plan.seeds]
    steps += [Step("eval", one.about, one.is_scored) for one in plan.runs]
    are_scored = all(one.is_scored for one in plan.seeds)
    scored = [scores_file(one.run.folder, SPLIT) for one in plan.seeds if one.run and are_scored]
    if len(plan.seeds) > 1:
        made = scores_file(plan.options.runs / plan.ensemble, SPLIT)
        steps.append(Step("ensemble", f"{len(plan.seeds)} seeds", _are_scores(made) and _is_newer(made, scored)))
        scored.append(made)
    return [*steps, Step("report", str(plan.report), are_scored and _is_newer(plan.report, scored))]


def _are_scores(file: Path) -> bool:
    """True if a file has JSON, and not nothing, as after a power cut."""
    try:
        return isinstance(read_json(file), dict)
    except (OSError, ValueError):
        return False


def _is_newer(file: Path, others: Sequence[Path]) -> bool:
    """True if a file is there, and not older than others, of which there is at least one."""
    try:
        made = file.stat().st_mtime_ns
        return bool(others) and all(made >= other.stat().st_mtime_ns for other in others)
    except OSError:
        return False


def _find_run(config: TrainConfig, options: RecipeOptions) -> Run | None:
    """The run of a config on the features of the store; None before these are extracted."""
    store = FeatureStore.open_if_there(options.store)
    if store is None or set(config.all_features()) - set(store.features()) or not options.runs.is_dir():
        return None
    return find_started_run(config.resolved(), store, options.runs)


def _extractions(recipe: Recipe, config: TrainConfig, options: RecipeOptions) -> list[ExtractOptions]:
    """The extractions that a recipe names, with the backbones that the user gave; by default those of its features."""
    commands = recipe.extract or dict.fromkeys(how_to_make(feature) for feature in config.all_features())
    given = {Request.parse(text).feature: text for text in options.backbones}
    extractions = []
    for command in commands:
        backbones, views, n_views = _read_command(command, recipe)
        backbones = tuple(given.pop(Request.parse(text).feature, text) for text in backbones)
        extractions.append(ExtractOptions(options.data, options.store, backbones, views, n_views, options.device))
    if given:
        raise UsageError(f"Recipe {recipe.name} has no feature {', '.join(given)}. Leave out that --backbone.")
    return extractions


def _read_command(command: str, recipe: Recipe) -> tuple[tuple[str, ...], tuple[str, ...], int]:
    """Backbones, views and number of views of a command such as `abaw extract --backbone vit-mean`."""
    words = shlex.split(command)
    values: dict[str, list[str]] = {"--backbone": [], "--view": [], "--views": []}
    pairs = list(zip(words[2::2], words[3::2], strict=False))
    is_known = all(option in values and (option != "--views" or value.isdecimal()) for option, value in pairs)
    if words[:2] != ["abaw", "extract"] or len(words) % 2 or not is_known:
        raise UsageError(
            f"Recipe {recipe.name} extracts by `{command}`, which `abaw run` cannot do. Use `abaw extract` with --backbone, "
            "--view and --views alone."
        )
    for option, value in pairs:
        values[option].append(value)
    return tuple(values["--backbone"]), tuple(values["--view"]), int((values["--views"] or ["1"])[-1])


def _extract_steps(extraction: ExtractOptions, config: TrainConfig) -> list[Step]:
    """A step for each feature. Without a data folder, what the store has counts as done."""
    store = FeatureStore.open_if_there(extraction.store)
    has_labels = store is not None and config.task in store.tasks()
    if store is not None and not extraction.data.is_dir() and has_labels:
        names = [Request.parse(text).feature for text in extraction.backbones]
        if set(names) <= set(store.features()):
            return [Step("extract", f"{name}, as stored: there is no folder {extraction.data}", True) for name in names]
    steps = []
    for one in forecast_extraction(extraction).features:
        what = f"{one.n_videos:,} videos, {one.n_frames:,} frames" if one.n_videos else f"{one.n_complete:,} videos"
        steps.append(Step("extract", f"{one.feature}: {what}", not one.n_videos and has_labels, _needs(one)))
    return steps


def _needs(one: FeatureForecast) -> str:
    """What a person has to do for the weights of a feature."""
    if not one.n_videos or one.has_weights:
        return ""
    name = one.backbone if one.backbone == one.feature else f"{one.feature}={one.backbone}"
    return f"{one.feature} needs weights ({one.weights}); get them, or name your file with --backbone {name}:FILE"
