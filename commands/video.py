"""The commands that predict new videos and images, and that export a run to programs which do."""

import csv
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from abaw.commands import completion
from abaw.commands.help import examples
from abaw.commands.shared_options import DEVICE, IDENTITY, RAW, RUNS, typed_run
from abaw.core.errors import UsageError

if TYPE_CHECKING:
    from abaw.predict.input_files import PredictOptions


@click.command(
    epilog=examples(
        "abaw predict talk.mp4 photo.jpg",
        "abaw predict va-vit-mean-transformer-1 talk.mp4",
        "abaw predict --stream rtsp://camera/1",
    )
)
@click.argument("files", nargs=-1, required=True, metavar="[RUN] FILE...", shell_complete=completion.runs_or_files)
@click.option("--out", default="predictions", type=click.Path(path_type=Path), show_default=True,
              help="Folder that gets one for each file.")  # fmt: skip
@click.option("--backbone", "backbones", multiple=True, metavar="[NAME=]BACKBONE[:WEIGHTS]",
              shell_complete=completion.backbones,
              help="Of a feature whose weights are not the default ones; repeatable.")  # fmt: skip
@click.option("--faces", type=click.IntRange(min=1), metavar="N",
              help="Keep N people of each file, the largest and longest seen.  [default: all]")  # fmt: skip
@click.option("--no-overlay", is_flag=True, help="Leave out the video or image with the predictions in it.")
@IDENTITY
@RAW
@click.option("--untrained", is_flag=True, help="Random weights, for runs on features that have them.")
@click.option("--stream", is_flag=True,
              help="Print rows as CSV while frames come, and write nothing; FILE may be the URL of a camera, or - for standard input.")  # fmt: skip
@RUNS
@DEVICE
def predict(
    files: tuple[str, ...],
    out: Path,
    backbones: tuple[str, ...],
    faces: int | None,
    no_overlay: bool,
    identity: str | None,
    raw: bool,
    untrained: bool,
    stream: bool,
    runs: Path,
    device: str,
) -> None:
    """Predict the emotions of faces in videos and images.

    FILE may be a folder of them.

    Without RUN: seven expressions by `fer`, a small network that comes with abaw. With RUN: what it was trained on.
    """
    from abaw import pipeline
    from abaw.commands import console, tables

    if stream:
        _check_typed("out", "faces", "no_overlay", "identity")
        options = pipeline.PredictOptions(backbones=backbones, raw=raw, untrained=untrained, device=device)
        _predict_stream(runs, files, options)
        return
    run, paths = pipeline.find_inputs(runs, files)
    options = pipeline.PredictOptions(
        tuple(paths), out, backbones, faces or 0, not no_overlay, raw, untrained, device, identity or ""
    )
    pipeline.check_predict(run, options)
    console.show_device(device)
    with console.ConsoleReporter() as reporter:
        summary = pipeline.predict_videos(run, options, reporter)
    tables.show_predictions(summary, out)
    if run is None:
        console.say("Runs of your own predict in the same way, `abaw predict RUN FILE`; the demo trains some.")
        console.say_next("demo")
    else:
        console.say_next("eval", typed_run(run.folder, runs))  # how far to trust it
    sys.exit(0 if summary.ok else 1)


def _check_typed(*names: str) -> None:
    """Raise a UsageError for options that write files."""
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(
                f"--{name.replace('_', '-')} is for files, and --stream writes none. Leave out one of them."
            )


def _predict_stream(runs: Path, arguments: tuple[str, ...], options: "PredictOptions") -> None:
    """Print the rows of a video as they come."""
    from abaw import pipeline
    from abaw.commands import console, interruption

    interruption.nothing_yet()
    run, source = pipeline.find_stream(runs, arguments)
    with console.loading("Loading the networks"):
        stream = pipeline.predict_stream(run, source, options=options)
    if stream.note:
        console.warn(stream.note)
    console.warn(f"Rows come {stream.delay} frames ({stream.delay / stream.fps:.2f} s) after their frame.")
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(stream.columns)
    for row in stream:
        table.writerow(stream.cells(row))
        sys.stdout.flush()


@click.command(epilog=examples("abaw export va-fer-transformer-1"))
@click.argument("run", shell_complete=completion.runs)
@click.option("--out", type=click.Path(path_type=Path), help="Folder to make.  [default: onnx/RUN]")
@click.option("--backbone", "backbones", multiple=True, metavar="[NAME=]BACKBONE[:WEIGHTS]",
              shell_complete=completion.backbones,
              help="Of a feature whose weights are not the default ones; repeatable.")  # fmt: skip
@click.option("--untrained", is_flag=True, help="Random weights, for runs on features that have them.")
@RUNS
def export(run: str, out: Path | None, backbones: tuple[str, ...], untrained: bool, runs: Path) -> None:
    """Write a run as ONNX, for programs without torch.

    An encoder-FEATURE.onnx takes images of faces, head.onnx windows of features; a fine-tuned run is one file, run.onnx.
    Their outputs are compared with torch's if onnxruntime is installed.
    """
    from abaw import pipeline
    from abaw.commands import console

    opened = pipeline.find_run(runs, run)
    with console.ConsoleReporter() as reporter:
        exported = pipeline.export_run(opened, out, backbones, untrained, reporter)
    for file in exported.files:
        console.say(f"{exported.folder / file.name}: {file.inputs} -> {file.outputs}")
    for note in exported.notes:
        console.warn(f"Warning: {note}")
    if exported.difference is not None:
        console.say(
            f"Checked with onnxruntime: outputs differ from torch by {exported.difference:.1e} at most (limit 1e-4)."
        )
