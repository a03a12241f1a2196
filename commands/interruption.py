"""Ctrl-C and SIGTERM: one sentence about what is kept, and the one command that continues."""

import shlex
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

from abaw.commands.shared_options import with_typed_options

EXIT_CODE = 128 + signal.SIGINT  # as shells have it
TYPED, AGAIN, FRESH = "abaw.typed", "abaw.again", "abaw.fresh"  # keys in the notes of a click context

KEPT = {
    "demo": "Finished steps are kept.",
    "extract": "Complete videos are in the store.",
    "predict": "Finished videos are kept.",
    "prepare": "Finished videos are kept.",
    "run": "Finished steps are kept.",
    "store pack": "What is packed stays packed.",
    "store import": "Complete videos are in the store.",
    "synth": "Finished clips are kept.",
    "train": "Every finished step is kept.",
    "weights get": "Downloaded files are kept.",
}
NOTHING_KEPT = "Nothing was changed."
# commands that write several files, and begin with the first one again
WRITERS = ("ensemble", "eval", "report", "store repair")
FILES_ARE_WHOLE = "Every file that was written is whole."


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Take SIGTERM, by which slurm ends a job, as Ctrl-C: workers and claims do not outlive the command."""
    if threading.current_thread() is not threading.main_thread():  # only that one may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)  # Python does not know a handler of C code


def typed_words(without: str = "", has_value: bool = False) -> list[str]:
    """The words of the command line after `abaw`, as they were typed.

    Args:
        without: an option to leave out.
        has_value: it takes a value, which is left out, too.
    """
    words: list[str] = []
    left_out = 0
    for word in click.get_current_context().meta.get(TYPED, ()):
        if word == without:
            left_out = 1 + has_value
        if left_out:
            left_out -= 1
        elif not (without and word.startswith(f"{without}=")):
            words.append(word)
    return words


def continue_with(*words: str) -> None:
    """Name another command than the same one as that which continues after an interruption.

    Args:
        words: of the command, without `abaw`; see `with_typed_options`.
    """
    meta = click.get_current_context().meta
    meta[AGAIN] = with_typed_options(words)
    meta.pop(FRESH, None)


def nothing_yet() -> None:
    """Say that the command has not made anything that an interruption would keep, until `continue_with`."""
    click.get_current_context().meta[FRESH] = True


def describe_interruption(context: click.Context) -> str:
    """What the interrupted command keeps, and the command that continues.

    Args:
        context: of the root command.
    """
    typed = context.meta.get(TYPED, ())
    words = shlex.join(["abaw", *context.meta.get(AGAIN, typed)])
    has_kept = _kept_by(context) and FRESH not in context.meta
    return f"Interrupted. {what_is_kept(context)} {'Continue' if has_kept else 'Start again'} with: {words}"


def what_is_kept(context: click.Context) -> str:
    """What a command that has ended early leaves behind.

    Args:
        context: of the root command.
    """
    if FRESH not in context.meta and (kept := _kept_by(context)):
        return kept
    return NOTHING_KEPT if _names(context).isdisjoint(WRITERS) else FILES_ARE_WHOLE


def _kept_by(context: click.Context) -> str:
    return next((sentence for name, sentence in KEPT.items() if name in _names(context)), "")


def _names(context: click.Context) -> set[str]:
    """Names that the command may have: it may be one of a group."""
    typed = context.meta.get(TYPED, ())
    return {" ".join(typed[:n]) for n in (1, 2)}
