"""The command line: the tree of commands, and the one place where errors become messages and exit codes."""

import sys
from typing import Any

import click

from abaw import __version__
from abaw.commands.data import doctor, list_, prepare, synth, weights
from abaw.commands.demo import demo
from abaw.commands.extract import extract
from abaw.commands.scores import compare, ensemble, eval_, report, tune
from abaw.commands.store import store
from abaw.commands.submission import check_submission, submit
from abaw.commands.train import train
from abaw.commands.video import predict
from abaw.core.errors import AbawError, is_disk_full

INTERRUPTED = (
    "Interrupted. What was finished is kept; run the same command again to continue. Training continues with `abaw train "
    "--resume`, several seeds with the whole command and --resume."
)


class CommandGroup(click.Group):
    """Prints errors of `abaw` as one sentence and exits with their code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands in the order of work."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        try:
            return super().invoke(ctx)
        except AbawError as error:
            _fail(str(error), error.exit_code)
        except OSError as error:
            if not is_disk_full(error):
                raise
            path = error.filename or "the store or run"
            _fail(
                f"No space left to write {path} ({error.strerror}). Free some space and run the same command again.", 1
            )
        except KeyboardInterrupt:
            _fail(INTERRUPTED, 1)


def _fail(sentence: str, exit_code: int) -> None:
    click.echo(f"Error: {sentence}", err=True)
    sys.exit(exit_code)


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
def main() -> None:
    """Affect in video: features once, then small temporal models and challenge scores.

    With a data/ folder in the layout of Aff-Wild2, these three run without further options:

    \b
      abaw extract --backbone vit-mean
      abaw train --task va
      abaw eval --split val

    `abaw demo` makes a small dataset and does all three.
    """


for command in (
    doctor,
    prepare,
    weights,
    extract,
    train,
    eval_,
    tune,
    compare,
    ensemble,
    report,
    submit,
    check_submission,
    predict,
    store,
    list_,
    demo,
    synth,
):
    main.add_command(command)
