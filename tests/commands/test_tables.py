"""Tables: words stay whole at every width, in pipes and in dumb terminals; COLUMNS is honoured."""

import re

import pytest
from rich.console import ConsoleDimensions

from abaw.commands import console
from abaw.commands.table_layout import fit_columns

COLUMNS = ["", "measure", ">official", "explanation"]
ROWS = [
    ("valence", "CCC", "0.915", "the agreement of both series, their means included"),
    ("score", "mean of CCC valence and CCC arousal", 0.8, "macro-averaged"),
    ("日本の", "-", "1", "[red]not markup[/red]"),
]
WORDS = {word for row in [COLUMNS, *ROWS] for cell in row for word in str(cell).removeprefix(">").split()}


def words_in(text: str) -> set[str]:
    return set(re.sub("[│┃━┏┓┗┛┳┻╇┡┩─┴└┘┼]", " ", text).split())


@pytest.mark.parametrize("lines", [True, False])
@pytest.mark.parametrize("width", [200, 100, 80, 60, 45, 20])
def test_words_stay_whole_at_every_width(monkeypatch, capsys, width, lines):
    monkeypatch.setenv("COLUMNS", str(width))
    console.show_table("A title", COLUMNS, ROWS, lines=lines)
    shown = capsys.readouterr().out
    assert words_in(shown.replace(":", "")) >= {word.rstrip(":") for word in WORDS}
    if width > 45:
        assert max(map(len, shown.splitlines())) <= width
    assert ("│" in shown) == (lines and width >= 60), "lines between columns go first"


def test_a_pipe_has_a_line_for_each_row(capsys):
    console.show_table("A title", COLUMNS, [*ROWS, ("long", "x" * 300, "1", "y" * 300)])
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 1 + 3 + 4 + 1
    cells = [cell.strip() for cell in shown[5].strip("│").split("│")]
    assert cells == ["score", "mean of CCC valence and CCC arousal", "0.8", "macro-averaged"]


def test_columns_wins_over_a_dumb_terminal(monkeypatch, capsys):
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.setattr(console.out, "_force_terminal", True)
    console.show_table("A title", COLUMNS, ROWS)
    assert "mean of CCC valence and CCC arousal" in capsys.readouterr().out
    monkeypatch.delenv("COLUMNS")
    monkeypatch.setattr(console.out, "size", ConsoleDimensions(80, 25), raising=False)
    console.show_table("A title", COLUMNS, ROWS)
    assert "mean of CCC valence and CCC arousal" not in capsys.readouterr().out


def test_narrow_terminals_do_without_optional_columns(monkeypatch, capsys):
    columns, rows = ["name", ">score", "made", "note"], [("a" * 20, "0.5", "2026-01-01", "x" * 10)]

    def shown(width: int) -> list[str]:
        monkeypatch.setenv("COLUMNS", str(width))
        console.show_table("T", columns, rows, optional=("made", "note"), lines=False)
        return capsys.readouterr().out.splitlines()[1].split()

    assert shown(60) == ["name", "score", "made", "note"]
    assert shown(50) == ["name", "score", "note"]
    assert shown(30) == ["name", "score"]
    rows = [("a", "0.5", "-", "x")]
    assert shown(60) == ["name", "score", "note"], "a column without any value says nothing"


def test_widths_by_hand():
    cells = [["name", "what it is"], ["a b", "one two three four"]]
    assert fit_columns(cells, None) == fit_columns(cells, 22) == [4, 18]
    assert fit_columns(cells, 21, wrap=False) is None
    assert fit_columns(cells, 15) == [4, 11]
    assert fit_columns(cells, 9) == [4, 5]
    assert fit_columns(cells, 8) is None
    assert fit_columns([["name of it", "x"]], 5) == [4, 1], "the first column is wrapped where nothing else helps"
