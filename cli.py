"""The command line: parse, call the pipeline, print. Loads torch only inside commands."""

import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from abaw import __version__
from abaw.commands.data import DATA, DEVICE, FPS, RUNS, STORE, doctor, prepare, store, synth, weights
from abaw.commands.scores import compare, ensemble, eval_, report, show_or_print, tune
from abaw.commands.submission import check_submission, submit
from abaw.commands.video import predict
from abaw.core.errors import DISK_FULL, AbawError, UsageError
from abaw.core.files import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from abaw.core.progress import Reporter
    from abaw.store import FeatureStore
    from abaw.train.config import TrainConfig
    from abaw.train.loop import TrainingResult
    from abaw.train.runs import Run


class CommandGroup(click.Group):
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
            said = "run the same command again to go on; a training by `abaw train --resume`, several seeds by the"
            click.echo(f"Error: Interrupted. What was finished is kept; {said} whole command with --resume.", err=True)
            sys.exit(1)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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
@click.option("--dataset", "kind", default="aff-wild2", show_default=True, help="aff-wild2, lsd or vgaf.")
@DEVICE
def demo(out: Path, size: str, seed: int, kind: str, device: str) -> None:
    """Make a small dataset, extract its features, train and evaluate its tasks.

    Leaves OUT/data, OUT/store.zarr and OUT/runs, so that all other commands go on working inside OUT.
    """
    from abaw import pipeline
    from abaw.commands import console

    with console.ConsoleReporter() as reporter:
        for run, found in pipeline.demo(out, size, seed, device, reporter, kind):
            show_or_print(run.folder, found, "val")
    console.say(f"To go on: cd {out} && abaw train --task {run.config.task} && abaw eval --split val")


for command in (
    doctor,
    prepare,
    weights,
    store,
    synth,
    eval_,
    tune,
    submit,
    check_submission,
    predict,
    compare,
    ensemble,
    report,
):
    main.add_command(command)


@main.command("list")
@click.argument("what", type=click.Choice(["backbones", "heads", "losses", "recipes", "tasks"]))
def list_(what: str) -> None:
    """Show the backbones, heads, losses, recipes or tasks there are."""
    from abaw.commands import listings

    shown = {
        "backbones": listings.show_backbones,
        "heads": listings.show_heads,
        "losses": listings.show_losses,
        "recipes": listings.show_recipes,
        "tasks": listings.show_tasks,
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
    """Run backbones over all face crops, or the sound of the videos, into the store. Run it again to go on."""
    from abaw import pipeline
    from abaw.commands import console, tables

    options = pipeline.ExtractOptions(
        data, store, backbones, views, n_views, device, precision, batch_size or 0, fps, untrained, part
    )
    if scheduler and cluster:
        raise UsageError("--scheduler and --cluster exclude each other: give the one or the other.")
    on = pipeline.ClusterOptions(scheduler, cluster) if scheduler or cluster else None
    if untrained:
        console.warn("Untrained weights: the features are random projections, good for trying things out only.")
    # slurm ends a job by SIGTERM; taken as an interruption, workers and claims do not outlive it
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with console.ConsoleReporter() as reporter:
            summary = pipeline.extract(options, reporter, on)
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # Python does not know a handler of C code
    tables.show_summary(summary, store)
    sys.exit(0 if summary.ok else 1)


@main.command()
@click.option("--task", help="What to predict; `abaw list tasks` shows the tasks.")
@click.option("--recipe", help="A published system, or a .toml file; `abaw list recipes` shows them.")
@click.option("--feature", "features", multiple=True, help="Feature to train on; repeatable.  [default: the only one]")
@click.option("--head", help="Head; `abaw list heads` shows them.  [default: transformer]")
@click.option("--loss", help="Loss; `abaw list losses` shows them.  [default: the task's]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other option, such as epochs=50.")
@click.option("--fold", metavar="K/N", help="Deal all labelled videos into N folds and validate on number K.")
@click.option("--seeds", "n_seeds", type=click.IntRange(min=1), default=1, show_default=True,
              help="Train as many runs that differ in their seed.")  # fmt: skip
@STORE
@RUNS
@click.option("--run", "name", help="Name of the run.  [default: task-features-head-number, or recipe-number]")
@click.option("--resume", is_flag=True,
              help="Go on with --run, or the newest run (of --task); with --seeds, with all runs of the same command.")  # fmt: skip
@DEVICE
def train(
    task: str | None,
    recipe: str | None,
    features: tuple[str, ...],
    head: str | None,
    loss: str | None,
    settings: tuple[str, ...],
    fold: str | None,
    n_seeds: int,
    store: Place,
    runs: Path,
    name: str | None,
    resume: bool,
    device: str,
) -> None:
    """Train a temporal head for a task on stored features.

    On several GPUs: torchrun --nproc-per-node N -m -- abaw train ...
    """
    from abaw import pipeline
    from abaw.core.devices import pick_device
    from abaw.train import multi_process
    from abaw.train.config import make_config
    from abaw.train.new_run import make_train_config
    from abaw.train.recipes import load_recipe
    from abaw.train.runs import find_run

    place = pick_device(device)  # before a run folder is made
    opened = pipeline.FeatureStore.open(store)
    if resume and n_seeds == 1:
        if recipe or features or head or loss or settings or fold:
            raise UsageError(
                "--resume goes on with the run's own options. Leave out all but --task and --run; only with --seeds give "
                "the whole command again."
            )
        with multi_process.processes(place):
            _resume(find_run(runs, name, task), opened, device)
        return
    named = load_recipe(recipe) if recipe else None
    given = {"head": {"name": head} if head else None, "loss": {"name": loss} if loss else None, "fold": fold}
    values = {key: value for key, value in given.items() if value}
    config = make_train_config(opened, task, features, values, settings, named)
    seeded = [make_config(config.model_dump() | {"seed": config.seed + number}) for number in range(n_seeds)]
    with multi_process.processes(place):
        _train_all(seeded, opened, runs, name, named.name if named else "", device, resume)


@contextmanager
def _first_process_reports() -> "Iterator[Reporter]":
    """A reporter on the console; a silent one in all but the first of several processes."""
    from abaw.commands import console
    from abaw.core.progress import Silent
    from abaw.train import multi_process

    with console.ConsoleReporter() as reporter:
        yield Silent() if multi_process.rank() else reporter


def _resume(run: "Run", store: "FeatureStore", device: str) -> None:
    from abaw import pipeline

    run.check_store(store, training=True)
    with _first_process_reports() as reporter:
        result = pipeline.train(run, store, pipeline.load_tables(run.config, store), device, reporter)
    _say_trained(run, result)


def _train_all(
    configs: "list[TrainConfig]",
    store: "FeatureStore",
    runs: Path,
    name: str | None,
    stem: str,
    device: str,
    resume: bool,
) -> None:
    from statistics import mean, stdev

    from abaw import pipeline
    from abaw.commands import console
    from abaw.train import multi_process

    scores = []
    with _first_process_reports() as reporter:
        for run, result in pipeline.train_seeds(configs, store, runs, name, stem, device, reporter, resume):
            reporter.finish()
            _say_trained(run, result)
            scores.append(result.best_score)
    if len(scores) > 1 and multi_process.rank() == 0:
        console.say(f"{len(scores)} seeds: {configs[0].task} score {mean(scores):.3f} ± {stdev(scores):.3f}.")


def _say_trained(run: "Run", result: "TrainingResult") -> None:
    from abaw.commands import console
    from abaw.train import multi_process

    if multi_process.rank() == 0:
        console.say(
            f"{run.folder}: best {run.config.task} score {result.best_score:.3f} at epoch {result.best_epoch} "
            f"of {result.n_epochs}. Next: abaw eval {run.name}"
        )
