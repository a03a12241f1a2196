"""The commands about data, weights and stores, and the options that commands share."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

DATA = click.option("--data", envvar="ABAW_DATA", default="data", type=click.Path(path_type=Path), show_default=True,
                    show_envvar=True, help="Folder with cropped_aligned/ and the label folders.")  # fmt: skip
STORE = click.option("--store", envvar="ABAW_STORE", default="store.zarr", type=click.Path(path_type=Path),
                     show_default=True, show_envvar=True, help="Feature store.")  # fmt: skip
RUNS = click.option("--runs", envvar="ABAW_RUNS", default="runs", type=click.Path(path_type=Path), show_default=True,
                    show_envvar=True, help="Folder of the runs.")  # fmt: skip
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
FPS = click.option(
    "--fps", type=click.FloatRange(min=0, min_open=True), help="Frame rate of videos without a video file."
)


def print_json(content: dict[str, Any]) -> None:
    """Print one JSON object."""
    click.echo(json.dumps(content, indent=2))


@click.command()
@DATA
@FPS
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def doctor(data: Path, fps: float | None, as_json: bool) -> None:
    """Check data against labels: missing crops, extra rows, left/right, frame rates, unreadable files."""
    from abaw import console, pipeline, tables
    from abaw.datasets.doctor import left_right_pairs

    with console.ConsoleReporter() as reporter:
        reports = pipeline.doctor(data, fps, reporter)
    pairs = left_right_pairs(reports)
    if as_json:
        totals = {**tables.doctor_totals(reports), "left_right_pairs": pairs}
        print_json({"data": str(data), "total": totals, "per_video": [asdict(report) for report in reports]})
    else:
        tables.show_doctor(data, reports, pairs)
    sys.exit(1 if any(report.errors for report in reports) else 0)


@click.group(invoke_without_command=True)
@click.pass_context
def weights(context: click.Context) -> None:
    """Show where the weights of the backbones are published, and which are found under $ABAW_WEIGHTS."""
    from abaw import tables

    if context.invoked_subcommand is None:
        tables.show_weights()


@weights.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Tell which backbones a weights file fits, and the fingerprints of their features."""
    from abaw import console, pipeline

    fits = pipeline.check_weights(file)
    console.show_table(str(file), ["backbone", "fingerprint", "notes"], fits)
    console.say(f"Use it as `--backbone {fits[0][0]}:{file}`.")


@click.group()
def store() -> None:
    """Look into the feature store."""


@store.command()
@click.argument("path", envvar="ABAW_STORE", default="store.zarr", type=click.Path(path_type=Path))
def info(path: Path) -> None:
    """Features, videos, frames, missing frames, sizes and fingerprints."""
    from abaw import tables
    from abaw.store import FeatureStore

    tables.show_store(FeatureStore.open(path))


@store.command()
@click.argument("path", envvar="ABAW_STORE", default="store.zarr", type=click.Path(path_type=Path))
def verify(path: Path) -> None:
    """Read everything; report damage, incomplete videos and features whose frames disagree."""
    from abaw import console
    from abaw.audit import verify_store
    from abaw.store import FeatureStore

    opened = FeatureStore.open(path)
    with console.ConsoleReporter() as reporter:
        problems = verify_store(opened, reporter)
    console.show_some(f"{len(problems)} problems in {path}:", problems, most=50)
    if not problems:
        console.say(f"{path} is whole.")
    sys.exit(1 if problems else 0)
