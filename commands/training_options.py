"""Options that the commands which train have in common."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from abaw.commands import completion
from abaw.commands.shared_options import TaskName

Command = TypeVar("Command", bound=Callable[..., Any])

TASK = click.option(
    "--task",
    type=TaskName(),
    shell_complete=completion.tasks,
    help="What to predict; `abaw list tasks` shows the tasks.",
)
RESUME = click.option("--resume", is_flag=True,
                      help="Continue --run, or the newest run (of --task); with --seeds, all runs of the same command.")  # fmt: skip
PRINT_CONFIG = click.option("--print-config", is_flag=True, help="Print all options as a recipe, and train nothing.")


def run_name(stem: str) -> Callable[[Command], Command]:
    """`--run`, which names a new run.

    Args:
        stem: of the default.
    """
    return click.option(
        "--run", "name", shell_complete=completion.runs, help=f"Name of the run.  [default: {stem}-number]"
    )


def learning(head: str, inputs: str, batch: str, of_seed: str) -> Callable[[Command], Command]:
    """Options of how a model learns, from `--head` to `--seeds`.

    Args:
        head: the default.
        inputs: what an epoch passes over.
        batch: what a batch consists of.
        of_seed: what the seed decides.
    """
    options = [
        click.option("--head", shell_complete=completion.heads,
                     help=f"Head; `abaw list heads` shows them.  [default: {head}]"),
        click.option("--loss", shell_complete=completion.losses,
                     help="Loss; `abaw list losses` shows them.  [default: the task's]"),
        click.option("--epochs", type=click.IntRange(min=1), metavar="N", help=f"Passes over the training {inputs}."),
        click.option("--batch-size", type=click.IntRange(min=1), metavar="N", help=f"{batch} in a batch."),
        click.option("--lr", type=float, metavar="RATE", help="Learning rate, of the last layers of a network."),
        click.option("--seed", type=click.IntRange(min=0), metavar="N", help=f"Seed of weights, {of_seed}."),
        click.option("--set", "settings", multiple=True, metavar="KEY=VALUE",
                     help="Any other option, such as head.dropout=0.1."),
        click.option("--fold", metavar="K/N", help="Deal all labelled videos into N folds and validate on number K."),
        click.option("--seeds", "n_seeds", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
                     help="Train N runs with different seeds."),
    ]  # fmt: skip

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add
