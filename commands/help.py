"""Help texts: commands in sections, and examples at the end."""

from collections.abc import Sequence
from typing import Any

import click

from abaw.core.errors import did_you_mean


def examples(*lines: str) -> str:
    """The end of a command's help: commands to copy."""
    title = "Example:" if len(lines) == 1 else "Examples:"
    return "\n".join(["\b", title, *(f"  {line}" for line in lines)])


class CommandGroup(click.Group):
    """A group of commands in the order in which they were added, in sections; a mistyped name is answered by a near one."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._sections: dict[str, str] = {}  # titles, by the name of the first command of each

    def add_section(self, title: str, *commands: click.Command) -> None:
        """Add commands under a title."""
        for command in commands:
            self.add_command(command)
        self._sections[str(commands[0].name)] = title

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands in the order of work."""
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the sections with a line for each command; lines are not cut."""
        rows: list[tuple[str, str]] = []
        title, width = "Commands", max(map(len, self.commands), default=0)
        for name, command in self.commands.items():
            if name in self._sections:
                _write(formatter, title, rows)
                title, rows = self._sections[name], []
            rows.append((name.ljust(width), command.get_short_help_str(limit=1000)))
        _write(formatter, title, rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is called."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            near = did_you_mean(args[0], list(self.commands))
            raise click.UsageError(f"No such command {args[0]!r}. {near}".strip(), ctx) from None


def _write(formatter: click.HelpFormatter, title: str, rows: Sequence[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(title):
            formatter.write_dl(rows)
