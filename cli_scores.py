"""The commands about predictions and their scores."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from abaw.cli_data import DATA, DEVICE, RUNS, STORE, print_json

if TYPE_CHECKING:
    from abaw.evaluate.evaluation import Evaluation
    from abaw.train.runs import Run


@click.command("eval")
@click.argument("run", required=False)
@click.option("--split", default="val", show_default=True, help="train or val.")
@STORE
@RUNS
@DATA
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def eval_(run: str | None, split: str, store: Path, runs: Path, data: Path, device: str, as_json: bool) -> None:
    """Score a run (default: the newest) on a split; keep predictions and a picture in the run.

    Scores come from the store alone; where the data folder is at hand, its faces go into the picture.
    """
    from abaw import pipeline
    from abaw.tasks import get_task
    from abaw.train.runs import find_run

    found = find_run(runs, run)
    evaluation = pipeline.evaluate(found, pipeline.FeatureStore.open(store), split, device, data)
    if as_json:
        print_json(evaluation.as_json(get_task(found.config.task), split, found.name))
    else:
        finish_evaluation(found, evaluation, split)


def finish_evaluation(run: "Run", found: "Evaluation", split: str) -> None:
    """Show the scores of a run, and where the rest is."""
    from abaw import console, tables
    from abaw.tasks import get_task

    tables.show_evaluation(run.name, get_task(run.config.task), split, found)
    console.say(f"Predictions, scores and a picture: {run.folder}/*-{split}.*")
