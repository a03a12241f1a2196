"""Help: lines that are not cut, an example for each command that can be typed, near names for mistyped ones."""

import shlex

import click
import pytest

from abaw.cli import main

Words = tuple[str, ...]


def all_commands(command: click.Command = main, path: Words = ()) -> dict[Words, click.Command]:
    """Every command of the tree by its words, groups included."""
    found = {path: command}
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            found |= all_commands(child, (*path, name))
    return found


COMMANDS = all_commands()


def test_commands_are_in_sections_in_the_order_of_work(run_cli):
    titles = ["Data:", "Features:", "Models:", "Results:", "Other:"]
    lines = run_cli("--help").stdout.splitlines()
    assert [line for line in lines if line in titles] == titles
    order = [line.split()[0] for line in lines[lines.index("Data:") :] if line.startswith("  ") and line[2] != " "]
    assert [name for name in order if name in main.commands] == list(main.commands)
    assert order.index("doctor") < order.index("extract") < order.index("train") < order.index("eval")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits_80_columns_and_is_not_cut(run_cli, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    lines = run_cli(*words, "--help").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    command = COMMANDS[words]
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            (line,) = [line for line in lines if line.startswith(f"  {name} ")]
            assert line.split(maxsplit=1)[1] == child.help.split("\n")[0], "the summary is one whole line"
            assert child.help.split("\n")[0].endswith(".")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_examples_can_be_typed(words):
    """Each one is about its command and has options and choices that exist; nothing is run."""
    epilog = COMMANDS[words].epilog
    assert epilog and epilog.startswith("\b\nExample")
    lines = [line.strip().partition(" > ")[0] for line in epilog.splitlines()[2:]]
    assert lines
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "abaw" and tuple(arguments[: len(words)]) == words
        command: click.Command = main
        while isinstance(command, click.Group):
            with main.make_context("abaw", ["--help"], resilient_parsing=True) as context:
                _, child, arguments = command.resolve_command(context, arguments)
            assert child is not None
            command = child
        command.make_context("abaw", list(arguments)).close()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["trian"], "No such command 'trian'. Did you mean train?"),
        (["check-submision", "x"], "No such command 'check-submision'. Did you mean check-submission?"),
        (["store", "inof"], "No such command 'inof'. Did you mean info?"),
        (["weights", "gte"], "No such command 'gte'. Did you mean get?"),
        (["list", "backbonse"], "No such command 'backbonse'. Did you mean backbones?"),
        (["eval", "--splitt", "val"], "Did you mean --split?"),
        (["demo", "--size", "huge"], "'huge' is not one of 'tiny', 'small', 'large'"),
        (["demo", "--dataset", "nope"], "'nope' is not one of 'aff-wild2', 'lsd', 'stills', 'vgaf'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_mistyped_commands_and_options(run_cli, words, said):
    result = run_cli(*words)
    assert result.exit_code == 2
    assert said in result.stderr or said in result.stderr.replace("'", "")  # click quotes options, or does not
