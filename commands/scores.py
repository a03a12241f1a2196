"""The commands about predictions and their scores."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from abaw.commands.data import DATA, DEVICE, RUNS, STORE, print_json
from abaw.core.errors import UsageError
from abaw.core.files import Place

if TYPE_CHECKING:
    from collections.abc import Sequence

    from abaw.evaluate.evaluation import Evaluation
    from abaw.evaluate.results import Results
    from abaw.store import FeatureStore


@click.command("eval")
@click.argument("run", required=False)
@click.option("--split", default="val", show_default=True, help="train or val.")
@STORE
@RUNS
@DATA
@DEVICE
@click.option("--raw", is_flag=True, help="Leave out the post-processing that `abaw tune` fitted.")
@click.option("--smooth", metavar="KIND:WIDTH",
              help="Instead of it, smooth all outputs: box:51 is over 51 frames; box, gaussian, median or savgol.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--predictions", type=click.Path(path_type=Path),
              help="Score a submission file, or a folder with a file for each video, instead of a run.")  # fmt: skip
@click.option("--task", help="What --predictions are of.  [default: what their header says]")
@click.option("--feature", help="Feature that tells which frames of --predictions have a crop.  [default: the first]")
def eval_(
    run: str | None,
    split: str,
    store: Place,
    runs: Path,
    data: Path,
    device: str,
    raw: bool,
    smooth: str | None,
    as_json: bool,
    predictions: Path | None,
    task: str | None,
    feature: str | None,
) -> None:
    """Score a run or ensemble (default: the newest run) on a split; keep predictions and a picture in its folder.

    Scores come from the store alone; where the data folder is at hand, its faces go into the picture.
    """
    from abaw import pipeline
    from abaw.evaluate.postprocessing.smoothing import parse_smoothing

    if raw and smooth:
        raise UsageError("--raw is without post-processing, --smooth is one. Choose one of them.")
    if predictions is not None:
        if run is not None:
            raise UsageError("Score either a run or --predictions. Leave out one of them.")
        if raw or smooth:
            raise UsageError("--raw and --smooth are about runs: --predictions are scored as they are. Leave them out.")
        _score_predictions(predictions, pipeline.FeatureStore.open(store), task, split, feature, data, as_json)
        return
    if task is not None or feature is not None:
        raise UsageError("--task and --feature are about --predictions. Leave them out.")
    smoothing = parse_smoothing(smooth) if smooth else None
    predictor = pipeline.find_predictor(runs, run, device, raw or smoothing is not None)
    evaluation = pipeline.evaluate(predictor, pipeline.FeatureStore.open(store), split, data, smoothing)
    show_or_print(predictor.folder, evaluation, split, as_json)


def _score_predictions(
    path: Path, store: "FeatureStore", task: str | None, split: str, feature: str | None, data: Path, as_json: bool
) -> None:
    from abaw.commands import tables
    from abaw.core.tasks import get_task
    from abaw.evaluate.submission.check import identify
    from abaw.evaluate.submission.score import score_predictions

    of = get_task(task) if task else identify(path)
    found = score_predictions(store, of, split, path, feature or "", data)
    if as_json:
        print_json(found.as_json(split, path.name))
    else:
        tables.show_evaluation(path.name, of, split, found)


def show_or_print(folder: Path, evaluation: "Evaluation", split: str, as_json: bool = False) -> None:
    """Show the scores of a run or ensemble, what an ensemble is made of, and where the rest is; or print JSON."""
    from abaw.commands import console, tables
    from abaw.evaluate.ensemble import describe_members

    if as_json:
        print_json(evaluation.as_json(split, folder.name))
        return
    tables.show_evaluation(folder.name, evaluation.task, split, evaluation)
    for sentence in describe_members(evaluation):
        console.say(sentence)
    _say_processed(evaluation.members, "`abaw ensemble --raw`")
    console.say(f"Predictions, scores and a picture: {folder}/*-{split}.*")


@click.command()
@click.argument("run", required=False)
@click.option("--fit-on", type=click.Choice(["train", "folds", "val"]), default="train", show_default=True,
              help="Predictions to fit: the run's on train or val, or out of fold, those of runs on other folds.")  # fmt: skip
@STORE
@RUNS
@DEVICE
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def tune(
    run: str | None, fit_on: Literal["train", "folds", "val"], store: Place, runs: Path, device: str, as_json: bool
) -> None:
    """Fit the post-processing of a run (default: the newest); `abaw eval` then applies it.

    Smoothing over time, a threshold for each action unit, offsets of classes: kept as postprocess.json in the run.
    """
    from abaw import pipeline
    from abaw.commands import console, tables
    from abaw.train.runs import find_run

    found = find_run(runs, run)
    tuning = pipeline.tune(found, pipeline.FeatureStore.open(store), fit_on, runs, device)
    if as_json:
        print_json(tuning.model_dump(mode="json"))
        return
    tables.show_tuning(found.name, found.task, tuning)
    console.say(f"{found.folder / 'postprocess.json'}: `abaw eval {found.name}` applies it, unless with --raw.")


@click.command()
@click.argument("first", metavar="RUN")
@click.argument("second", metavar="RUN")
@click.option("--split", default="val", show_default=True, help="train or val.")
@RUNS
@click.option("--raw", is_flag=True, help="Leave out the post-processing that `abaw tune` fitted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def compare(first: str, second: str, split: str, runs: Path, raw: bool, as_json: bool) -> None:
    """Say whether the second run is better than the first: scores, difference, 95 % intervals and p-values.

    Takes what `abaw eval` or `abaw ensemble` left in the two folders.
    """
    from abaw.commands import console, tables
    from abaw.evaluate.compare import as_json as comparison_json
    from abaw.evaluate.compare import compare as compare_results
    from abaw.evaluate.ensemble import find_results
    from abaw.evaluate.scores.bootstrap import FEW_UNITS, MIN_UNITS, N_DRAWS, n_units

    results = find_results(runs, first, split, raw), find_results(runs, second, split, raw)
    found = compare_results(*results)
    if as_json:
        print_json(comparison_json(*results, split, found))
        return
    task = results[0].task
    tables.show_comparison((results[0].name, results[1].name), task, split, found)
    drawn = "images" if task.level == "image" else "videos"
    console.say(
        f"The difference is {results[1].name} less {results[0].name}. Intervals and p by drawing the {drawn} again "
        f"{N_DRAWS:,} times, the same for both; p is not corrected for how many rows there are."
    )
    n_drawn = n_units(task, results[0].predictions)
    if n_drawn < MIN_UNITS:
        console.warn(f"There are no intervals and no p: they need {MIN_UNITS} labelled {drawn}, found {n_drawn}.")
    elif n_drawn < FEW_UNITS:
        console.warn(f"With {n_drawn} labelled {drawn} the intervals are rough and too narrow.")
    if n_drawn >= MIN_UNITS and any(math.isnan(one.difference.p_value) for one in found.values()):
        console.warn(f"A row without p hangs on so few {drawn} that drawing them again cannot tell.")
    _say_processed(results, "--raw")


def _say_processed(results: "Sequence[Results]", way_out: str) -> None:
    """Which predictions are post-processed, what is to be said of their scores, and what leaves it out."""
    from abaw.commands import console

    for one in {found.name: found for found in results if found.origin}.values():
        note = f"; {one.note}" if one.note else ""
        console.warn(f"{one.name} is post-processed ({one.origin}{note}). Leave that out with {way_out}.")


@click.command()
@click.argument("names", metavar="RUN...", nargs=-1, required=True)
@click.option("--weights", metavar="W,W,...", help="Of the runs, in their order.  [default: equal]")
@click.option("--split", default="val", show_default=True, help="train or val.")
@RUNS
@click.option("--run", "name", help="Name of the ensemble.  [default: task-ensemble-number]")
@click.option("--raw", is_flag=True, help="Leave out the post-processing that `abaw tune` fitted.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def ensemble(
    names: tuple[str, ...], weights: str | None, split: str, runs: Path, name: str | None, raw: bool, as_json: bool
) -> None:
    """Average what runs predict, or pool it where they are of different folds, and score that.

    RUN may be a pattern, such as 'va-*'. Takes what `abaw eval` left in the runs; the result lies among them.
    """
    from abaw.evaluate.ensemble import create_ensemble, parse_weights, select_runs

    given = parse_weights(weights) if weights else None
    made, evaluation = create_ensemble(runs, select_runs(runs, names), given, split, name, raw)
    show_or_print(made.folder, evaluation, split, as_json)


@click.command()
@click.argument("names", metavar="RUN...", nargs=-1)
@click.option("--split", default="val", show_default=True, help="train or val.")
@click.option("--out", default="report.html", type=click.Path(path_type=Path), show_default=True, help="File to write.")
@RUNS
@DATA
@click.option("--plots", type=click.Path(path_type=Path), help="Folder for the figures as PNG and PDF, too.")
def report(names: tuple[str, ...], split: str, out: Path, runs: Path, data: Path, plots: Path | None) -> None:
    """Explain runs (default: the newest) in one HTML file: scores, errors, and the traces of every video.

    Several runs of one task are compared side by side. Takes what `abaw eval` left in the runs; where the data folder is
    at hand, its faces are shown where the runs are worst.
    """
    from abaw.commands import console
    from abaw.evaluate.report.content import load_runs
    from abaw.evaluate.report.face_crops import open_faces
    from abaw.evaluate.report.figures import save_figures
    from abaw.evaluate.report.html import write_report
    from abaw.train.runs import find_run

    task, found = load_runs(runs, names or [find_run(runs, None).name], split)
    faces = open_faces(data)
    write_report(out, task, found, split, faces)
    console.say(f"{out}: {out.stat().st_size / 1e6:.1f} MB; open it in a browser.")
    if plots is not None:
        paths = save_figures(plots, task, found, split, faces)
        console.say(f"{len(paths)} figures: {plots}/*-{split}.*")
