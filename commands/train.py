"""The command that trains runs."""

from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING

import click

from abaw.commands.shared_options import DEVICE, RUNS, STORE
from abaw.core.errors import UsageError
from abaw.core.files import Place

if TYPE_CHECKING:
    from abaw.store import FeatureStore
    from abaw.train.config import TrainConfig
    from abaw.train.loop import TrainingResult
    from abaw.train.runs import Run


@click.command()
@click.option("--task", help="What to predict; `abaw list tasks` shows the tasks.")
@click.option("--recipe", help="A published system, or a .toml file; `abaw list recipes` shows them.")
@click.option("--feature", "features", multiple=True, help="Feature to train on; repeatable.  [default: the only one]")
@click.option("--head", help="Head; `abaw list heads` shows them.  [default: transformer]")
@click.option("--loss", help="Loss; `abaw list losses` shows them.  [default: the task's]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any other option, such as epochs=50.")
@click.option("--fold", metavar="K/N", help="Deal all labelled videos into N folds and validate on number K.")
@click.option("--seeds", "n_seeds", type=click.IntRange(min=1), default=1, show_default=True,
              help="Train N runs with different seeds.", metavar="N")  # fmt: skip
@STORE
@RUNS
@click.option("--run", "name", help="Name of the run.  [default: task-features-head-number, or recipe-number]")
@click.option("--resume", is_flag=True,
              help="Continue --run, or the newest run (of --task); with --seeds, all runs of the same command.")  # fmt: skip
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
    if resume and n_seeds == 1:
        if recipe or features or head or loss or settings or fold:
            raise UsageError(
                "--resume continues the run with its own options. Leave out all but --task and --run; only with --seeds "
                "give the whole command again."
            )
        _resume(store, runs, name, task, device)
        return
    from abaw import pipeline
    from abaw.core.tasks import get_task

    if task:
        get_task(task)
    opened = pipeline.open_store(store, features)
    named = pipeline.load_recipe(recipe) if recipe else None
    options = {"head": {"name": head} if head else None, "loss": {"name": loss} if loss else None, "fold": fold}
    values = {key: value for key, value in options.items() if value}
    configs = pipeline.make_train_configs(opened, task, features, values, settings, named, n_seeds)
    _train(configs, opened, runs, name, named.name if named else "", device, resume)


def _resume(store: Place, runs: Path, name: str | None, task: str | None, device: str) -> None:
    from abaw import pipeline
    from abaw.commands import console

    opened = pipeline.open_store(store)
    run = pipeline.find_run(runs, name, task)
    with console.ConsoleReporter() as reporter:
        pipeline.train(run, opened, device=device, reporter=reporter, on_result=_say_trained)


def _train(
    configs: "list[TrainConfig]",
    store: "FeatureStore",
    runs: Path,
    name: str | None,
    stem: str,
    device: str,
    resume: bool,
) -> None:
    from abaw import pipeline
    from abaw.commands import console

    scores = []

    def on_result(run: "Run", result: "TrainingResult") -> None:
        _say_trained(run, result)
        scores.append(result.best_score)

    with console.ConsoleReporter() as reporter:
        pipeline.train_seeds(configs, store, runs, name, stem, device, reporter, resume, on_result)
    if len(scores) > 1:
        console.say(f"{len(scores)} seeds: {configs[0].task} score {mean(scores):.3f} ± {stdev(scores):.3f}.")


def _say_trained(run: "Run", result: "TrainingResult") -> None:
    from abaw.commands import console

    console.say(
        f"{run.folder}: best {run.config.task} score {result.best_score:.3f} at epoch {result.best_epoch} "
        f"of {result.n_epochs}. Next: abaw eval {run.name}"
    )
