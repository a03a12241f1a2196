"""The command that predicts new videos."""

import sys
from pathlib import Path

import click

from abaw.commands.shared_options import DEVICE, RAW, RUNS


@click.command()
@click.argument("run")
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...", type=click.Path(path_type=Path))
@click.option("--out", default="predictions", type=click.Path(path_type=Path), show_default=True,
              help="Folder that gets one for each video.")  # fmt: skip
@click.option("--backbone", "backbones", multiple=True, metavar="[NAME=]BACKBONE[:WEIGHTS]",
              help="Of a feature whose weights are not the default ones; repeatable.")  # fmt: skip
@click.option("--faces", type=click.IntRange(min=1), metavar="N",
              help="Keep N people of each video, the largest and longest seen.  [default: all]")  # fmt: skip
@click.option("--no-overlay", is_flag=True, help="Leave out the video with the predictions in it.")
@RAW
@click.option("--untrained", is_flag=True, help="Random weights, for runs on features that have them.")
@RUNS
@DEVICE
def predict(
    run: str,
    videos: tuple[Path, ...],
    out: Path,
    backbones: tuple[str, ...],
    faces: int | None,
    no_overlay: bool,
    raw: bool,
    untrained: bool,
    runs: Path,
    device: str,
) -> None:
    """Predict the emotions of all faces in video files, or in folders of them: tables, a picture, and the video."""
    from abaw import pipeline
    from abaw.commands import console, tables

    trained = pipeline.find_run(runs, run)
    options = pipeline.PredictOptions(videos, out, backbones, faces or 0, not no_overlay, raw, untrained, device)
    console.show_device(device)
    with console.ConsoleReporter() as reporter:
        summary = pipeline.predict_videos(trained, options, reporter)
    tables.show_summary(summary, out)
    sys.exit(0 if summary.ok else 1)
