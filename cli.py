"""The command line: parse, call the pipeline, print. The only module that exits; loads torch only inside commands."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from abaw import __version__
from abaw.cli_data import DATA, DEVICE, FPS, RUNS, STORE, doctor, print_json, store, weights
from abaw.errors import DISK_FULL, AbawError, UsageError

if TYPE_CHECKING:
    from abaw.evaluate.evaluation import Evaluation
    from abaw.train.runs import Run


class Group(click.Group):
    """Prints our own errors as one sentence and exits with their code."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except AbawError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)
        except OSError as error:
            if error.errno not in DISK_FULL:
                raise
            place = error.filename or "the store or run"
            click.echo(
                f"Error: No space to write {place} ({error.strerror}). Make room and run the same command again.",
                err=True,
            )
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("Error: Interrupted. What was finished is kept; run the same command again to go on.", err=True)
            sys.exit(1)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Affect in video: features once, then small temporal models and challenge scores.

    Beside a data/ folder in the layout of Aff-Wild2 these three run as they stand:

    \b
      abaw extract --backbone vit-mean
      abaw train --task va
      abaw eval --split val

    `abaw demo` makes a small dataset and does all three.
    """


@main.command()
@click.option("--out", default="demo", type=click.Path(path_type=Path), show_default=True, help="Folder to make.")
@click.option("--size", default="small", show_default=True, help="tiny, small or large.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(min=0), help="Another seed, other faces.")
@DEVICE
def demo(out: Path, size: str, seed: int, device: str) -> None:
    """Make a small dataset, extract its features, train and evaluate all three tasks.

    Leaves OUT/data, OUT/store.zarr and OUT/runs, so that all other commands go on working inside OUT.
    """
    from abaw import console, pipeline

    with console.ConsoleReporter() as reporter:
        for run, found in pipeline.demo(out, size, seed, device, reporter):
            _finish_evaluation(run, found, "val")
    console.say(f"To go on: cd {out} && abaw train --task va && abaw eval --split val")


for command in (doctor, weights, store):
    main.add_command(command)


@main.command("list")
@click.argument("what", type=click.Choice(["backbones", "heads", "losses", "tasks"]))
def list_(what: str) -> None:
    """Show the backbones, heads, losses or tasks there are."""
    from abaw import tables

    shown = {
        "backbones": tables.show_backbones,
        "heads": tables.show_heads,
        "losses": tables.show_losses,
        "tasks": tables.show_tasks,
    }
    shown[what]()


@main.command()
@click.option("--backbone", "backbones", multiple=True, required=True, metavar="[NAME=]BACKBONE[:WEIGHTS]",
              help="What to run; repeatable, frames are decoded once. `abaw list backbones` shows them.")  # fmt: skip
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
              help="auto is bf16 on a GPU, fp32 elsewhere.")  # fmt: skip
@click.option("--batch-size", type=click.IntRange(min=1), help="Frames in a batch.  [default: 256 on a GPU, else 32]")
@FPS
@click.option("--untrained", is_flag=True, help="Random weights, for trying things out; recorded in the store.")
def extract(
    backbones: tuple[str, ...],
    data: Path,
    store: Path,
    views: tuple[str, ...],
    n_views: int,
    device: str,
    precision: Literal["auto", "fp32", "bf16"],
    batch_size: int | None,
    fps: float | None,
    untrained: bool,
) -> None:
    """Run backbones over all face crops, or the sound of the videos, into the store. Run it again to go on."""
    from abaw import console, pipeline, tables

    options = pipeline.ExtractOptions(
        data, store, backbones, views, n_views, device, precision, batch_size or 0, fps, untrained
    )
    if untrained:
        console.warn("Untrained weights: the features are random projections, good for trying things out only.")
    with console.ConsoleReporter() as reporter:
        summary = pipeline.extract(options, reporter)
    tables.show_summary(summary, store)
    sys.exit(0 if summary.ok else 1)


@main.command()
@click.option("--task", help="va, expr or au.")
@click.option("--feature", "features", multiple=True, help="Feature to train on; repeatable.  [default: the only one]")
@click.option("--head", help="Head; `abaw list heads` shows them.  [default: transformer]")
@click.option("--loss", help="Loss; `abaw list losses` shows them.  [default: the task's]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other option, such as epochs=50.")
@STORE
@RUNS
@click.option("--run", "name", help="Name of the run.  [default: task-features-head-number]")
@click.option("--resume", is_flag=True, help="Go on with --run, or the newest run (of --task).")
@DEVICE
def train(
    task: str | None,
    features: tuple[str, ...],
    head: str | None,
    loss: str | None,
    settings: tuple[str, ...],
    store: Path,
    runs: Path,
    name: str | None,
    resume: bool,
    device: str,
) -> None:
    """Train a temporal head for a task on stored features."""
    from abaw import console, pipeline
    from abaw.train.runs import find_run

    pipeline.pick_device(device)  # before a run folder is made
    opened = pipeline.FeatureStore.open(store)
    if resume:
        if features or head or loss or settings:
            raise UsageError(
                "--resume goes on with the run's own options. Leave out --feature, --head, --loss and --set."
            )
        run = find_run(runs, name, task)
        run.check_store(opened)
        tables = pipeline.load_tables(run.config, opened)
    elif task is None:
        raise UsageError("Say what to train with --task va, --task expr or --task au.")
    else:
        given = {"head": {"name": head} if head else None, "loss": loss}
        values = {key: value for key, value in given.items() if value}
        config = pipeline.make_train_config(opened, task, features, values, settings)
        tables = pipeline.load_tables(config, opened)
        run = pipeline.start_run(config, opened, runs, name)
    with console.ConsoleReporter() as reporter:
        result = pipeline.train(run, tables, device, reporter)
    console.say(
        f"{run.folder}: best {run.config.task} score {result.best_score:.3f} at epoch {result.best_epoch} "
        f"of {result.n_epochs}. Next: abaw eval {run.name}"
    )


@main.command("eval")
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
        _finish_evaluation(found, evaluation, split)


def _finish_evaluation(run: "Run", found: "Evaluation", split: str) -> None:
    from abaw import console, tables
    from abaw.tasks import get_task

    tables.show_evaluation(run.name, get_task(run.config.task), split, found)
    console.say(f"Predictions, scores and a picture: {run.folder}/*-{split}.*")
