"""The command line: the tree of commands, and the one place where errors become messages and exit codes."""

import gc
import os
import sys
from contextlib import suppress
from typing import Any

import click

from abaw import __version__
from abaw.commands.data import doctor, prepare, synth, weights
from abaw.commands.demo import demo
from abaw.commands.extract import extract
from abaw.commands.failures import ask_to_report, explain
from abaw.commands.finetune import finetune
from abaw.commands.help import CommandGroup, examples
from abaw.commands.interruption import EXIT_CODE, TYPED, describe_interruption, termination_interrupts
from abaw.commands.listings import list_
from abaw.commands.run import run
from abaw.commands.scores import compare, ensemble, eval_, report, tune
from abaw.commands.store import store
from abaw.commands.submission import check_submission, submit
from abaw.commands.train import train
from abaw.commands.video import export, predict
from abaw.core.errors import AbawError
from abaw.core.system_errors import describe_system_error, system_error, thread_error

GARBAGE_THRESHOLD = (
    10_000  # objects between two collections; Python's 700 cost a fifth of the time in which torch loads
)


class MainGroup(CommandGroup):
    """Prints errors of `abaw` as one sentence and exits with their code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Read the command line and run a command; a closed pipe ends it silently."""
        gc.set_threshold(GARBAGE_THRESHOLD)
        try:
            return super().main(*args, **kwargs)
        except OSError as error:  # --help and --version print before there is a command to invoke
            of_system = system_error(error)
            if of_system is None:
                raise
            _fail(describe_system_error(of_system), 1)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line, and keep it as it was typed."""
        ctx.meta[TYPED] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            with termination_interrupts():
                return super().invoke(ctx)
        except AbawError as error:
            _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            if no_threads := thread_error():  # OpenBLAS raises SIGINT where it can start none
                _fail(describe_system_error(no_threads), 1)
            click.echo(describe_interruption(ctx), err=True)
            sys.exit(EXIT_CODE)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise  # click says it, or ends silently
        except Exception as error:
            sentence = explain(error, ctx)
            if sentence is not None:
                _fail(sentence, 1)
            ask_to_report(error, ctx)
            raise


def _fail(sentence: str, exit_code: int) -> None:
    with suppress(OSError):  # standard error may be a full disk or a closed pipe, too
        click.echo(f"Error: {sentence}", err=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # what could not be written would be tried again, and reported, when Python ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(exit_code)


@click.group(
    cls=MainGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=examples("abaw demo", "abaw extract --backbone vit-mean", "abaw train --task va", "abaw eval --split val"),
)
@click.version_option(__version__)
def main() -> None:
    """Affect in video: features once, then small temporal models and challenge scores.

    `abaw COMMAND --help` shows the options of a command, with examples. The last three examples are all it takes with a
    data/ folder in the layout of Aff-Wild2; `abaw demo` makes a small dataset and does the same.
    """


main.add_section("Data", doctor, prepare, demo, synth)
main.add_section("Features", weights, extract, finetune, store)
main.add_section("Models", train, tune, ensemble, run)
main.add_section("Results", eval_, compare, report, submit, check_submission, predict, export)
main.add_section("Other", list_)
