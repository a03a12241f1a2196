"""Does the steps of a recipe that are missing, and sums up its scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from abaw.core.claim_files import claimed, drop_dead_claim
from abaw.core.errors import AbawError, UsageError
from abaw.core.json_files import read_json
from abaw.core.progress import Reporter, Silent, Summary
from abaw.evaluate.ensemble import create_ensemble
from abaw.evaluate.inference import SCORING
from abaw.evaluate.postprocessing.postprocess_options import method_of
from abaw.evaluate.postprocessing.tuning import POSTPROCESS
from abaw.evaluate.report import content, face_crops, html
from abaw.evaluate.trained import evaluate, open_predictor, tune
from abaw.extract.extraction import extract
from abaw.store import FeatureStore
from abaw.train.config import TrainConfig
from abaw.train.run_files import scores_file
from abaw.train.train_runs import train_seeds
from abaw.workflow.recipe_plan import SPLIT, RecipeOptions, RecipePlan, RecipeRun, Step, plan_recipe, with_current_runs


@dataclass(frozen=True)
class ScoreRow:
    """A row of a score table, about one run or several.

    Attributes:
        what: such as `3 seeds`.
        runs: their names.
        raw, tuned: scores of the runs as predicted, and after post-processing; empty where there are none.
        origin: where the post-processing comes from.
    """

    what: str
    runs: tuple[str, ...]
    raw: tuple[float, ...]
    tuned: tuple[float, ...]
    origin: str

    @classmethod
    def read(cls, what: str, folders: Sequence[Path]) -> "ScoreRow":
        """Read the scores that the evaluation of runs left in their folders."""
        scores: list[dict[str, Any]] = [read_json(scores_file(folder, SPLIT)) for folder in folders]
        post = [one["postprocessed"] for one in scores if one["postprocessed"]]
        return cls(
            what,
            tuple(folder.name for folder in folders),
            tuple(one["official"]["score"] for one in scores),
            tuple(one["official"]["score"] for one in post) if len(post) == len(scores) else (),
            ", ".join(dict.fromkeys(one["origin"] for one in post)),
        )

    def in_words(self) -> tuple[str, str]:
        """Both scores as `0.512 ± 0.010`; `-` without post-processing."""
        return _mean_and_spread(self.raw), _mean_and_spread(self.tuned)


def _mean_and_spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def run_recipe(
    options: RecipeOptions,
    reporter: Reporter | None = None,
    on_step: Callable[[Step], None] = lambda step: None,
) -> tuple[RecipePlan, list[ScoreRow]]:
    """Do the steps of a recipe that are missing.

    Args:
        on_step: called with each step before it begins.

    Raises:
        AbawError: a step cannot begin, or failed; what was finished is kept.
        KeyboardInterrupt: likewise.
    """
    plan = plan_recipe(options)
    if needs := [step.needs for step in plan.steps if step.needs]:
        raise UsageError(f"Nothing was started: {'; '.join(needs)}.")
    options.runs.mkdir(parents=True, exist_ok=True)
    with claimed(options.runs / f"{plan.recipe.name}.recipe"):
        return _run_steps(options, reporter or Silent(), on_step)


def _run_steps(
    options: RecipeOptions, reporter: Reporter, on_step: Callable[[Step], None]
) -> tuple[RecipePlan, list[ScoreRow]]:
    plan = plan_recipe(options)
    _extract(plan, reporter, on_step)
    store = FeatureStore.open(options.store)
    plan = plan_recipe(options)
    _train(plan, store, reporter, on_step)
    plan = with_current_runs(plan)
    for one in plan.seeds:
        if one.run and not one.is_tuned(options.n_folds > 0):
            on_step(Step("tune", one.about, False))
            tune(one.run, store, "auto", options.runs, options.device, method=method_of(one.config))
    for one in plan.runs:
        if one.run and not one.is_scored:
            on_step(Step("eval", one.about, False))
            evaluate(open_predictor(one.run.folder, options.device), store, SPLIT, options.data)
    for step in with_current_runs(plan).steps:
        if step.name == "ensemble" and not step.is_done:
            on_step(step)
            create_ensemble(options.runs, [one.run for one in plan.seeds if one.run], None, SPLIT, plan.ensemble)
    for step in with_current_runs(plan).steps:
        if step.name == "report" and not step.is_done:
            on_step(step)
            names = [
                *([plan.ensemble] if len(plan.seeds) > 1 else []),
                *(one.run.name for one in plan.seeds if one.run),
            ]
            html.write_report(
                plan.report, *content.load_runs(options.runs, names, SPLIT), SPLIT, face_crops.open_faces(options.data)
            )
    _drop_dead_claims(plan)
    return plan, _rows(plan)


def _drop_dead_claims(plan: RecipePlan) -> None:
    """Delete the claims that a killed process left on what it had written: nothing of it is written again."""
    folders = [one.run.folder for one in plan.runs if one.run]
    if len(plan.seeds) > 1:
        folders.append(plan.options.runs / plan.ensemble)
    results = [file for folder in folders for file in (scores_file(folder, SPLIT), folder / POSTPROCESS)]
    for target in (plan.report, *folders, *results):
        drop_dead_claim(target)


def _extract(plan: RecipePlan, reporter: Reporter, on_step: Callable[[Step], None]) -> None:
    missing = [step for step in plan.steps if step.name == "extract" and not step.is_done]
    for extraction in plan.extractions if missing else ():
        on_step(Step("extract", ", ".join(extraction.backbones), False))
        _check(extract(extraction, reporter), reporter)


def _check(summary: Summary, reporter: Reporter) -> None:
    """Raise an error if an extraction was cut short, or left out a backbone, a video or labels.

    Runs that were trained without them would count as done when they are there.
    """
    summary.raise_if_interrupted()
    if summary.stopped:
        raise AbawError(f"The extraction did not finish: {summary.stopped.sentence}.")
    for feature, why in summary.failed_backbones.items():
        raise AbawError(f"{feature} was not extracted: {why}")
    failures = [*(f"{video}: {why}" for video, why in summary.failed.items()), *summary.label_errors]
    for sentence in failures:
        reporter.warn(sentence)
    if failures:
        raise AbawError(
            f"Nothing was trained, because {len(failures)} videos or files of labels were left out, such as {failures[0]} "
            "Correct or remove them, then run the same command again."
        )


def _train(plan: RecipePlan, store: FeatureStore, reporter: Reporter, on_step: Callable[[Step], None]) -> None:
    """Train the seeds, whose configs differ in nothing else, and then each fold."""
    groups: list[list[RecipeRun]] = [list(plan.seeds), *([one] for one in plan.runs if one.config.fold)]
    for group in groups:
        if all(one.is_trained for one in group):
            continue
        on_step(Step("train", "; ".join(one.about for one in group if not one.is_trained), False))
        configs: list[TrainConfig] = [one.config for one in group]
        fold = configs[0].fold.replace("/", "of")
        stem = plan.recipe.name + (f"-fold{fold}" if fold else "")
        train_seeds(
            configs, store, plan.options.runs, SCORING,
            stem=stem, device=plan.options.device, reporter=reporter, resume=True,
        )  # fmt: skip


def _rows(plan: RecipePlan) -> list[ScoreRow]:
    folders = [[one.run.folder for one in runs if one.run] for runs in (plan.seeds, plan.runs[len(plan.seeds) :])]
    rows = [ScoreRow.read(f"{len(folders[0])} seed{'s' * (len(folders[0]) > 1)}", folders[0])]
    if folders[1]:
        rows.append(ScoreRow.read(f"{len(folders[1])} folds", folders[1]))
    if len(plan.seeds) > 1:
        averaged = ScoreRow.read("ensemble of the seeds", [plan.options.runs / plan.ensemble])
        if rows[0].tuned:  # what it averages is post-processed
            averaged = replace(averaged, raw=(), tuned=averaged.raw, origin=rows[0].origin)
        rows.append(averaged)
    return rows
