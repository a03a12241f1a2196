"""Errors that no part of `abaw` expected: of the system, in a sentence with what to do; of abaw itself, with a request."""

import platform
from pathlib import Path

import click

from abaw import __version__
from abaw.commands.interruption import TYPED, what_is_kept
from abaw.core.files import is_url
from abaw.core.plugins import source_of_fault
from abaw.core.system_errors import describe_system_error, path_of, system_error

PLACES = ("path", "place")  # names of types of options


def explain(error: BaseException, context: click.Context) -> str | None:
    """A sentence about an error of the operating system; None if it is of abaw itself.

    Args:
        context: of the root command.
    """
    of_system = system_error(error)
    if of_system is None:
        return None
    path = path_of(of_system)
    return describe_system_error(of_system, _other_place(context, path) if path else "")


def ask_to_report(error: BaseException, context: click.Context) -> None:
    """Add to a traceback, as its last line, whose fault it is and that it should be reported, and what is safe."""
    if source := source_of_fault(error):
        error.add_note(
            f"This is a fault in {source}, a plug-in. {what_is_kept(context)} Correct, update or leave it out."
        )
        return
    error.add_note(
        f"This is a fault in abaw. {what_is_kept(context)} Please report it with the lines above: "
        f"abaw {__version__}, Python {platform.python_version()}, {platform.system()}."
    )


def _other_place(context: click.Context, path: Path) -> str:
    """How to let the command work in another place than that of a path: the option that names the nearest folder."""
    nearest, words = Path(), ""
    try:
        target = path.absolute()
        for parameter, value in _places(context):
            place = Path(value).absolute()
            if (target == place or place in target.parents) and len(place.parts) > len(nearest.parts):
                name = (
                    max(parameter.opts, key=len)
                    if parameter.param_type_name == "option"
                    else parameter.human_readable_name
                )
                nearest, words = place, name
    except (click.ClickException, OSError):
        return ""
    if not words:
        return ""
    return f"Choose another place with {words}" + (f", such as a copy of {nearest.name}" if nearest.exists() else "")


def _places(context: click.Context) -> list[tuple[click.Parameter, Path | str]]:
    """The paths among the options and arguments of the command that was typed, or their defaults."""
    command: click.Command = context.command
    words = list(context.meta.get(TYPED, ()))
    while isinstance(command, click.Group) and words:
        _, chosen, words = command.resolve_command(context, words)
        if chosen is None:
            return []
        command = chosen
    inner = command.make_context(command.name, words, parent=context, resilient_parsing=True)
    values_of = [(one, inner.params.get(str(one.name)) or one.get_default(inner)) for one in command.params]
    return [
        (parameter, value)
        for parameter, values in values_of
        for value in (values if isinstance(values, tuple | list) else (values,))
        if isinstance(value, Path) or (parameter.type.name in PLACES and isinstance(value, str) and not is_url(value))
    ]
