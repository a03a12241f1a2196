"""The command that fills the store."""

import signal
import sys
from pathlib import Path
from typing import Literal

import click

from abaw.commands import completion
from abaw.commands.help import examples
from abaw.commands.shared_options import DATA, DEVICE, FPS, STORE
from abaw.core.errors import UsageError
from abaw.core.files import Place


@click.command(
    epilog=examples("abaw extract --backbone vit-mean", "abaw extract --backbone hog --backbone mae-cls:mae.pth")
)
@click.option("--backbone", "backbones", multiple=True, required=True, metavar="[NAME=]BACKBONE[:WEIGHTS]",
              shell_complete=completion.backbones, help="What to run; repeatable, frames are decoded once. `abaw list backbones` shows them.")  # fmt: skip
@DATA
@STORE
@click.option(
    "--view",
    "views",
    multiple=True,
    metavar="VIEW",
    help="hflip adds the mirrored frames as a feature, mask0.75 frames with 75 % of the patches hidden.",
)
@click.option("--views", "n_views", type=click.IntRange(min=1), default=1, show_default=True,
              help="How many differently masked views.")  # fmt: skip
@DEVICE
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True,
              help="auto is what the feature has, else bf16 on a GPU and fp32 elsewhere.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=1), help="Frames in a batch.  [default: 256 on a GPU, else 32]")
@FPS
@click.option("--untrained", is_flag=True, help="Random weights, for trying things out; recorded in the store.")
@click.option("--part", default="", metavar="I/N", help="Only part I of N, for job arrays.")
@click.option("--scheduler", default="", metavar="ADDRESS", help="Run on the workers of this dask scheduler.")
@click.option("--cluster", type=click.Path(path_type=Path), metavar="FILE.toml", help="Start a cluster and run on it.")
def extract(
    backbones: tuple[str, ...],
    data: Path,
    store: Place,
    views: tuple[str, ...],
    n_views: int,
    device: str,
    precision: Literal["auto", "fp32", "bf16"],
    batch_size: int | None,
    fps: float | None,
    untrained: bool,
    part: str,
    scheduler: str,
    cluster: Path | None,
) -> None:
    """Run backbones over face crops or sound into the store.

    Run again to continue."""
    from abaw import pipeline
    from abaw.commands import console, tables

    if scheduler and cluster:
        raise UsageError("--scheduler and --cluster cannot be combined; use one of them.")
    options = pipeline.ExtractOptions(
        data, store, backbones, views, n_views, device, precision, batch_size or 0, fps, untrained, part
    )
    workers = pipeline.ClusterOptions(scheduler, cluster) if scheduler or cluster else None
    pipeline.check_extract(options)
    if workers is None:
        console.show_device(device)
    if untrained:
        console.warn("Untrained weights: the features are random projections, only good for trying things out.")
    # slurm ends a job by SIGTERM; taken as an interruption, workers and claims do not outlive it
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with console.ConsoleReporter() as reporter:
            summary = pipeline.extract(options, reporter, workers)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # Python does not know a handler of C code
    tables.show_summary(summary, store)
    sys.exit(0 if summary.ok else 1)
