"""The command that takes a recipe from data to a row of a score table."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from abaw.commands import completion
from abaw.commands.help import examples
from abaw.commands.shared_options import DATA, DEVICE, RUNS, STORE
from abaw.core.files import Place

if TYPE_CHECKING:
    from abaw.workflow.recipe_plan import Step


@click.command(
    epilog=examples("abaw run random-masking-va --dry-run", "abaw run random-masking-va --seeds 3 --folds 5")
)
@click.argument("recipe", shell_complete=completion.recipes_or_files)
@DATA
@STORE
@RUNS
@click.option("--seeds", "n_seeds", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
              help="Runs with different seeds.")  # fmt: skip
@click.option("--folds", "n_folds", type=click.IntRange(min=2), metavar="K",
              help="Also train on K folds, and fit post-processing on them.")  # fmt: skip
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Another value of an option of the recipe.")
@click.option("--backbone", "backbones", multiple=True, metavar="[NAME=]BACKBONE[:WEIGHTS]",
              shell_complete=completion.backbones,
              help="In place of that of the recipe, such as one with your weights; repeatable.")  # fmt: skip
@click.option("--dry-run", is_flag=True, help="Only show the steps, and which are done.")
@DEVICE
def run(
    recipe: str,
    data: Path,
    store: Place,
    runs: Path,
    n_seeds: int,
    n_folds: int | None,
    settings: tuple[str, ...],
    backbones: tuple[str, ...],
    dry_run: bool,
    device: str,
) -> None:
    """Do all that a recipe takes, from features to a report.

    RECIPE is a name of `abaw list recipes`, or a .toml file. Steps that are done are kept. Run again to continue.
    """
    from abaw import pipeline
    from abaw.commands import console, interruption

    with console.loading("Planning"):
        options = pipeline.RecipeOptions(recipe, data, store, runs, n_seeds, n_folds or 0, device, settings, backbones)
        plan = pipeline.plan_recipe(options)
    rows = [(number, step.name, step.about, _state(step)) for number, step in enumerate(plan.steps, start=1)]
    console.show_table(f"Recipe {plan.recipe.name}", [">", "step", "what", "state"], rows)
    needs = [step.needs for step in plan.steps if step.needs]
    console.show_some("Before it can start:", needs)
    if dry_run:
        console.say_next(*interruption.typed_words(without="--dry-run"))
        return
    console.show_device(device)
    with console.ConsoleReporter() as reporter:
        plan, scores = pipeline.run_recipe(options, reporter, lambda step: console.say(f"{step.name}: {step.about}"))
    measure = plan.runs[0].config.own_task.measure.name
    table = [(row.what, *row.in_words(), row.origin or "-", ", ".join(row.runs)) for row in scores]
    columns = [plan.recipe.name, f">{measure} on val", ">post-processed", "post-processing", "runs"]
    console.show_table(f"Scores of {plan.recipe.name}", columns, table)
    console.say(f"{plan.report}: open it in a browser. Runs are in {runs}, features in {store}.")
    best = scores[-1] if n_seeds > 1 else scores[0]
    console.say_next("submit", best.runs[0], "--sample", "SAMPLE.txt")


def _state(step: "Step") -> str:
    return "done" if step.is_done else "blocked" if step.needs else "missing"
