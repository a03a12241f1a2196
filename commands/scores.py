"""The commands about predictions and their scores."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from abaw.commands import completion
from abaw.commands.help import examples
from abaw.commands.shared_options import (
    DATA,
    DEVICE,
    FORBID,
    JSON,
    RAW,
    RUNS,
    SPLIT,
    STORE,
    TaskName,
    print_json,
    typed_run,
)
from abaw.core.claim_files import claimed
from abaw.core.errors import UsageError
from abaw.core.files import Place, check_folder_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from abaw.evaluate.evaluation import Evaluation
    from abaw.evaluate.results import Results


@click.command(
    "eval",
    epilog=examples(
        "abaw eval", "abaw eval va-vit-mean-transformer-1 --split val --json", "abaw eval --predictions predictions.txt"
    ),
)
@click.argument("run", required=False, shell_complete=completion.runs)
@SPLIT
@STORE
@RUNS
@DATA
@DEVICE
@RAW
@click.option("--smooth", metavar="KIND:WIDTH",
              help="Instead of it, smooth all outputs: box:51 is over 51 frames; box, gaussian, median or savgol. Or by "
              "output: valence=box:101,arousal=box:41.")  # fmt: skip
@JSON
@FORBID
@click.option("--csv", "csv_file", metavar="FILE", type=click.Path(path_type=Path),
              help="Write every frame's predictions and labels as CSV, too.")  # fmt: skip
@click.option("--predictions", type=click.Path(path_type=Path),
              help="Score a submission file, or a folder with a file for each video, instead of a run; or tables of OpenFace, "
              "py-feat, LibreFace or your own (video,frame,valence,...).")  # fmt: skip
@click.option(
    "--task",
    type=TaskName(),
    shell_complete=completion.tasks,
    help="What --predictions are of.  [default: what their header says]",
)
@click.option(
    "--feature",
    shell_complete=completion.features,
    help="Feature that tells which frames of --predictions have a crop.  [default: the first]",
)
@click.option(
    "--threshold",
    type=float,
    metavar="X",
    help="From which number on an action unit of tables is on.  [default: probability .5, intensity 1]",
)
@click.option("--keep", metavar="NAME", help="Keep --predictions and their scores as RUNS/NAME, for `abaw compare`.")
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
    forbid: tuple[str, ...],
    csv_file: Path | None,
    predictions: Path | None,
    task: str | None,
    feature: str | None,
    threshold: float | None,
    keep: str | None,
) -> None:
    """Score a run or ensemble on a split.

    RUN is the newest run by default. Predictions and a picture are kept in its folder.

    Scores come from the store alone; if the data folder exists, its faces go into the picture.
    """
    from abaw import pipeline
    from abaw.commands import console

    if raw and smooth:
        raise UsageError("--raw is without post-processing, --smooth is one. Choose one of them.")
    if csv_file is not None:
        check_folder_of(csv_file)
    if predictions is not None:
        _check_about_runs(run, csv_file, bool(raw or smooth), forbid)
        _score_predictions(predictions, store, task, split, feature, data, threshold, (runs, keep), as_json)
        return
    if task or feature or threshold is not None or keep:
        raise UsageError("--task, --feature, --threshold and --keep are about --predictions. Leave them out.")
    predictor = pipeline.find_predictor(runs, run, device, raw or smooth is not None)
    if smooth:
        pipeline.check_smoothing(predictor.task, smooth)
    opened = pipeline.open_store_for(predictor, store)
    pipeline.check_forbidden(forbid, store=opened, predictor=predictor)
    console.show_device(device)
    with console.ConsoleReporter() as reporter:
        evaluation = pipeline.evaluate(predictor, opened, split, data, smooth, reporter)
    also = [_write_csv(csv_file, evaluation)] if csv_file is not None else []
    show_scores(predictor.folder, evaluation, split, as_json, also)
    if not as_json:
        console.say_next("report", typed_run(predictor.folder, runs), *_other_split(split))


def _check_about_runs(run: str | None, csv_file: Path | None, has_processing: bool, forbid: tuple[str, ...]) -> None:
    """Raise a UsageError for options that predictions in a file do not take."""
    if csv_file is not None:
        raise UsageError("--csv is about runs: --predictions are in a file already. Leave it out.")
    if run is not None:
        raise UsageError("Score either a run or --predictions. Leave out one of them.")
    if has_processing:
        raise UsageError("--raw and --smooth are about runs: --predictions are scored as they are. Leave them out.")
    if forbid:
        raise UsageError("--forbid is about runs: what made --predictions is not known. Leave it out.")


def _write_csv(path: Path, evaluation: "Evaluation") -> str:
    """Write every frame's predictions; returns a sentence about the file."""
    table = evaluation.table()
    with claimed(path):
        table.write_csv(path)
    return f"{path}: {len(table):,} rows, {path.stat().st_size / 1e6:.1f} MB."


def _score_predictions(
    path: Path,
    store: Place,
    task: str | None,
    split: str,
    feature: str | None,
    data: Path,
    threshold: float | None,
    kept: tuple[Path, str | None],
    as_json: bool,
) -> None:
    """Show the scores of a file or folder, and keep them in a folder of runs under a name, if there is one."""
    from abaw import pipeline
    from abaw.commands import console, tables

    pipeline.check_choices(task or "")
    opened = pipeline.open_store(store, [feature] if feature else [])
    evaluation = pipeline.score_predictions(opened, path, split, task, feature, data, threshold)
    if as_json:
        print_json(evaluation.as_json(split, path.name))
    else:
        tables.show_evaluation(path.name, split, evaluation)
    runs, name = kept
    if name is not None:
        folder = pipeline.keep_predictions(evaluation, runs, name, split, path, opened)
        words = console.next_command("compare", name, "RUN", *_other_split(split))
        (console.warn if as_json else console.say)(f"Kept in {folder}. {words}")


def show_scores(
    folder: Path, evaluation: "Evaluation", split: str, as_json: bool = False, also: "Sequence[str]" = ()
) -> None:
    """Show the scores of a run or ensemble, the members of an ensemble, and where the rest is; or print JSON.

    Args:
        also: sentences about other files that were written; next to JSON they go to standard error.
    """
    from abaw import pipeline
    from abaw.commands import console, tables

    if as_json:
        print_json(evaluation.as_json(split, folder.name))
        for sentence in also:
            console.warn(sentence)
        return
    tables.show_evaluation(folder.name, split, evaluation)
    for sentence in pipeline.describe_members(evaluation):
        console.say(sentence)
    _warn_of_processing(evaluation.members, "`abaw ensemble --raw`")
    for sentence in (*also, f"Predictions, scores and a picture: {folder}/*-{split}.*"):
        console.say(sentence)


@click.command(
    epilog=examples(
        "abaw tune",
        "abaw tune va-vit-mean-transformer-1 --fit-on folds",
        "abaw tune va-vit-mean-transformer-1 --smooth valence=box:101,arousal=box:41",
    )
)
@click.argument("run", required=False, shell_complete=completion.runs)
@click.option("--fit-on", type=click.Choice(["auto", "folds", "crossed", "train", "val"]), default="auto", show_default=True,
              help="Predictions to fit: of runs on folds; of val, each video by a fit on the others (crossed); of train; or "
              "of val as it is, which is optimistic. auto is folds if there are such runs, else crossed.")  # fmt: skip
@click.option("--smooth", metavar="KIND:WIDTH",
              help="Given rather than fitted, for all outputs as box:51, or by output: valence=box:101,arousal=box:41.")  # fmt: skip
@click.option("--threshold", metavar="AU1=P,AU2=P,...",
              help="Given probabilities of action units. Or how to fit: best, or plateau (the centre of the range in which "
              "F1 is near its best).  [default: best]")  # fmt: skip
@click.option("--bias", metavar="CLASS=B,...",
              help="Given biases of the logits of classes. Or how to fit: prior (by the shares of the classes), or free "
              "(each by itself).  [default: prior]")  # fmt: skip
@click.option("--per-person", is_flag=True, help="Give the outputs of every video the same mean and spread first.")
@click.option("--prefer", metavar="'FEATURE>P'",
              help="Take the class of stored logits where their probability is above P, such as 'fer-logits>0.85'.")  # fmt: skip
@STORE
@RUNS
@DEVICE
@JSON
def tune(
    run: str | None,
    fit_on: Literal["auto", "folds", "crossed", "train", "val"],
    smooth: str | None,
    threshold: str | None,
    bias: str | None,
    per_person: bool,
    prefer: str | None,
    store: Place,
    runs: Path,
    device: str,
    as_json: bool,
) -> None:
    """Fit the post-processing of a run.

    RUN is the newest run by default; `abaw eval` then applies it.

    Smoothing over time, a threshold for each action unit, offsets of classes: kept as postprocess.json in the run.

    If anything is given (--smooth, --threshold, --bias), nothing else is fitted, unless --fit-on says on what. Without
    options, the post-processing of the run's recipe is given, if this has any.
    """
    from abaw import pipeline
    from abaw.commands import console, tables

    trained = pipeline.find_run(runs, run)
    method = None
    if smooth or threshold or bias or per_person or prefer:
        method = pipeline.tuning_method(trained.task, threshold, smooth, bias, per_person, prefer)
    opened = pipeline.open_store_for(trained, store)
    console.show_device(device)
    with console.ConsoleReporter() as reporter:
        tuning = pipeline.tune(trained, opened, fit_on, runs, device, reporter, method)
    if as_json:
        print_json(tuning.model_dump(mode="json"))
        return
    tables.show_tuning(trained.name, trained.task, tuning)
    console.say(f"{trained.folder / 'postprocess.json'}: `abaw eval` applies it, unless with --raw.")
    console.say_next("eval", typed_run(trained.folder, runs))


@click.command(epilog=examples("abaw compare va-hog-ridge-1 va-vit-mean-transformer-1"))
@click.argument("first", metavar="RUN", shell_complete=completion.runs)
@click.argument("second", metavar="RUN", shell_complete=completion.runs)
@SPLIT
@RUNS
@RAW
@JSON
def compare(first: str, second: str, split: str, runs: Path, raw: bool, as_json: bool) -> None:
    """Say whether a second run is better than a first.

    Shows scores, their difference, 95 % intervals and p-values.

    Reads what `abaw eval` or `abaw ensemble` left in the two folders.
    """
    from abaw import pipeline
    from abaw.commands import console, tables

    with console.loading("Comparing"):
        comparison = pipeline.compare(runs, (first, second), split, raw)
    if as_json:
        print_json(comparison.as_json())
        return
    tables.show_comparison(comparison)
    console.say(comparison.explain())
    for sentence in comparison.warnings():
        console.warn(sentence)
    _warn_of_processing(comparison.results, "--raw")
    if comparison.can_average:
        console.say_next("ensemble", first, second, *_other_split(split), *(("--raw",) if raw else ()))


def _other_split(split: str) -> tuple[str, ...]:
    """The option that names a split, unless it is the default."""
    return () if split == "val" else ("--split", split)


def _warn_of_processing(results: "Sequence[Results]", way_out: str) -> None:
    """Which predictions are post-processed, what that means for their scores, and how to leave it out."""
    from abaw.commands import console

    for one in {result.name: result for result in results if result.origin}.values():
        note = f"; {one.note}" if one.note else ""
        console.warn(f"{one.name} is post-processed ({one.origin}{note}). Leave that out with {way_out}.")


@click.command(
    epilog=examples(
        "abaw ensemble 'va-*'",
        "abaw ensemble va-a va-b --weights 2,1 --run va-both",
        "abaw ensemble va=mtl-1@best-va expr=mtl-1@best-expr au=mtl-2",
    )
)
@click.argument("names", metavar="RUN...", nargs=-1, required=True, shell_complete=completion.runs)
@click.option("--weights", metavar="W,W,...", help="Of the runs, in their order.  [default: equal]")
@click.option("--weight", "output_weights", multiple=True, metavar="RUN:OUTPUT=W",
              help="Of a run for an output, or part of the task, alone, such as va-a:valence=2; repeatable.")  # fmt: skip
@SPLIT
@RUNS
@click.option("--run", "name", help="Name of the ensemble.  [default: task-ensemble-number]")
@RAW
@JSON
def ensemble(
    names: tuple[str, ...],
    weights: str | None,
    output_weights: tuple[str, ...],
    split: str,
    runs: Path,
    name: str | None,
    raw: bool,
    as_json: bool,
) -> None:
    """Average the predictions of runs, and score that.

    Predictions of runs of different folds are pooled.

    RUN may be a pattern, such as 'va-*', or RUN@best-va for another checkpoint of a run. PART=RUN takes an output, or a
    part of the task, from a run and nothing else. Reads what `abaw eval` left in the runs; the result is another folder there.
    """
    from abaw import pipeline
    from abaw.commands import console

    made, evaluation = pipeline.create_ensemble(runs, names, weights, split, name, raw, output_weights)
    show_scores(made.folder, evaluation, split, as_json)
    if not as_json:
        console.say_next("report", made.name, *_other_split(split))


@click.command(epilog=examples("abaw report", "abaw report va-hog-ridge-1 va-vit-mean-transformer-1 --out both.html"))
@click.argument("names", metavar="RUN...", nargs=-1, shell_complete=completion.runs)
@SPLIT
@click.option("--out", default="report.html", type=click.Path(path_type=Path), show_default=True, help="File to write.")
@RUNS
@DATA
@click.option("--plots", type=click.Path(path_type=Path), help="Folder for the figures as PNG and PDF, too.")
def report(names: tuple[str, ...], split: str, out: Path, runs: Path, data: Path, plots: Path | None) -> None:
    """Explain runs in one HTML file.

    It has scores, errors, and the traces of every video; RUN is the newest run by default.

    Several runs of one task are compared side by side. Reads what `abaw eval` left in the runs; if the data folder
    exists, its faces are shown where the runs are worst.
    """
    from abaw import pipeline
    from abaw.commands import console

    with console.loading("Drawing"):
        figures = pipeline.report(runs, names, split, out, data, plots)
    console.say(f"{out}: {out.stat().st_size / 1e6:.1f} MB; open it in a browser.")
    if plots is not None:
        console.say(f"{len(figures)} figures: {plots}/*-{split}.*")
    console.say_next("submit", *names[:1], "--sample", "SAMPLE.txt")
