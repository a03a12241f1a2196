"""Output of the command line: sentences, tables, and progress as bars or, without a terminal, as lines."""

import os
import shlex
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from rich.box import HEAVY_HEAD
from rich.console import Console, ConsoleDimensions, JustifyMethod
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from abaw.commands.shared_options import with_typed_options
from abaw.commands.table_layout import fit_columns, width_for
from abaw.core.devices import describe_device
from abaw.core.errors import printable

if TYPE_CHECKING:
    from abaw.store import FeatureStore

FIRST_LINE_S, LONGEST_SILENCE_S = 5.0, 60.0  # without a terminal, the pauses between lines get longer
SHORT_S = 1.0  # a step that was over sooner leaves no line

out = Console()
err = Console(stderr=True)


def can_draw() -> bool:
    """True if standard error is a terminal on which lines can be drawn again."""
    return err.is_terminal and not err.is_dumb_terminal


class ConsoleReporter:
    """Shows progress on standard error: a bar with rate and remaining time, or a line now and then."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._label, self._unit = "", ""
        self._total = self._done = self._done_before = 0
        self._begin = self._last_line = 0.0
        self._silence_s = FIRST_LINE_S

    def __enter__(self) -> "ConsoleReporter":
        return self

    def __exit__(self, *exception: object) -> None:
        self.finish()

    def start(self, label: str, total: int, unit: str, done: int = 0) -> None:
        """Begin a step, of which `done` units were done before; rates leave those out."""
        self.finish()
        self._label, self._total, self._unit = label, total, unit
        self._done = self._done_before = done
        self._begin = self._last_line = time.monotonic()
        self._silence_s = FIRST_LINE_S
        if total and can_draw():
            columns = (  # only the bar gets shorter where a terminal is narrow
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(table_column=Column(no_wrap=True)),
                TextColumn("{task.fields[note]}", markup=False),
                TimeRemainingColumn(table_column=Column(no_wrap=True)),
            )
            self._bar = Progress(*columns, console=err, transient=True)
            self._task = self._bar.add_task(label, total=total, completed=done, note="")
            self._bar.start()

    def advance(self, n: int = 1, note: str = "") -> None:
        """Count `n` more units; 0 with a note before the first one shows what the step is waiting for."""
        if n:  # several threads report 0, one counts
            self._done += n
        now = time.monotonic()
        n_done = self._done - self._done_before
        if note and not n_done:
            self._begin = now
        rate = n_done / max(now - self._begin, 1e-9)
        speed = f"{rate:.{0 if rate >= 10 else 1}f} {self._unit}/s" if n_done else ""
        text = printable(", ".join(filter(None, (speed, note))))
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, note=self._fitting(text))
        elif now - self._last_line > self._silence_s:
            self._last_line, self._silence_s = now, min(LONGEST_SILENCE_S, self._silence_s * 1.5)
            left = f"{(self._total - self._done) / rate:.0f} s left" if n_done else ""
            warn(", ".join(filter(None, (f"{self._label}: {self._done}/{self._total} {self._unit}", text, left))))

    def _fitting(self, note: str) -> str:
        """As many parts of a note as a terminal has room for next to the label, the shortest bar, counts and the time."""
        room = err.width - len(printable(self._label)) - 2 * len(str(self._total)) - len(" ━━━━━ /  0:00:00 ")
        parts = note.split(", ")
        while len(parts) > 1 and len(", ".join(parts)) > room:
            parts.pop(0)  # the rate first: the time that is left says as much
        return ", ".join(parts)

    def finish(self) -> None:
        """End the step: remove the bar and print what was done, unless it was over at once."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        n_done = self._done - self._done_before
        seconds = time.monotonic() - self._begin
        if self._label and n_done and seconds >= SHORT_S:
            rate = n_done / max(seconds, 1e-9)
            warn(f"{self._label}: {n_done} {self._unit} in {seconds:.1f} s ({rate:.1f} {self._unit}/s)")
        self._label = ""

    def log(self, line: str) -> None:
        """Print a line to standard error, above the bar."""
        self._last_line = time.monotonic()
        warn(line)

    def warn(self, sentence: str) -> None:
        """Print a sentence to standard error."""
        warn(sentence)


def say(sentence: str) -> None:
    """Print a sentence to standard output."""
    out.print(printable(sentence), highlight=False, markup=False, soft_wrap=True)


def warn(sentence: str) -> None:
    """Print a sentence to standard error."""
    err.print(printable(sentence), highlight=False, markup=False, soft_wrap=True)


def loading(what: str) -> AbstractContextManager[object]:
    """A context in which something is loaded, before there is any progress to show: a spinner, or a line that stays."""
    if not _is_first_process():
        return nullcontext()
    if can_draw():
        return err.status(what)
    warn(f"{what} ...")
    return nullcontext()


def loading_torch() -> AbstractContextManager[object]:
    """A context that may load torch; shows so if it is not loaded yet."""
    return nullcontext() if "torch" in sys.modules else loading("Loading torch")


def _is_first_process() -> bool:
    """True but in the other processes of torchrun, which stay silent."""
    return os.environ.get("RANK", "0") == "0"


def show_device(name: str, precision: str = "") -> None:
    """Print the device that a command computes on, and why it is not the GPU of this machine; loads torch.

    Args:
        precision: of the networks, if it is known.

    Raises:
        UsageError: the device is unknown or cannot be used.
    """
    if not _is_first_process():
        return
    with loading_torch():
        lines = describe_device(name, precision)
    for line in lines:
        warn(line)


def next_command(*words: str) -> str:
    """The sentence that names the command that comes next.

    Args:
        words: of that command, without `abaw`; see `with_typed_options`.
    """
    return f"Next: {shlex.join(['abaw', *with_typed_options(words)])}"


def say_next(*words: str) -> None:
    """Print the command that comes next to standard output; see `next_command`."""
    say(next_command(*words))


def say_next_training(store: "FeatureStore", feature: str) -> None:
    """Print the command that trains on a feature, or, without labels, the one that shows the store."""
    from abaw.core.tasks import TASKS  # numpy, which help does not need

    stored = store.tasks()
    task = next((name for name in TASKS if name in stored), None)
    if task is None:
        say_next("store", "info", store.path)
    else:
        say_next("train", "--task", TASKS.typed(task), *(("--feature", feature) if len(store.features()) > 1 else ()))


def show_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    optional: Sequence[str] = (),
    lines: bool = True,
) -> None:
    """Print a table in which words stay whole; a column `>name` is aligned to the right.

    Where a terminal is too narrow, the lines between columns go first, then the optional columns, and then cells are
    wrapped between words. Where that does not help, each row becomes a block of lines.

    Args:
        optional: names of columns that are left out if all their cells are `-`, and that a narrow terminal can do
            without, the least important first.
        lines: draw lines between columns.
    """
    names = [printable(column.removeprefix(">")) for column in columns]
    cells = [[printable(str(cell)) for cell in row] for row in rows]
    width, shown = width_for(out), list(range(len(columns)))
    if cells:
        shown = [n for n in shown if names[n] not in optional or any(row[n] != "-" for row in cells)]
    layouts: list[tuple[list[int], bool, bool]] = []
    for dropped in (None, *optional):
        shown = [number for number in shown if names[number] != dropped]
        layouts += [(shown, has_lines, False) for has_lines in (True, False) if lines or not has_lines]
    layouts += [(shown, has_lines, True) for has_lines in (True, False) if lines or not has_lines]
    for numbers, has_lines, wrap in layouts:
        texts = [[row[number] for number in numbers] for row in (names, *cells)]
        room = None if width is None else width - _width_between(len(numbers), has_lines)
        widths = fit_columns(texts, room, wrap)
        if widths is not None:
            _draw(title, [columns[number] for number in numbers], texts[1:], widths, has_lines)
            return
    say(title)
    for row in cells:
        say(row[0] or "-")
        for name, text in zip(names[1:], row[1:], strict=True):
            say(f"  {name}: {text}")


def _width_between(n_columns: int, has_lines: bool) -> int:
    """What a table has in addition to the widths of its columns: padding, and the lines."""
    return 3 * n_columns + 1 if has_lines else 2 * (n_columns - 1)


def _draw(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], has_lines: bool
) -> None:
    """Print a table whose columns have these widths."""
    out.print(Text(printable(title), style="table.title"), soft_wrap=True)  # Text: names in brackets are not markup
    table = Table(box=HEAVY_HEAD if has_lines else None)
    table.padding = (0, 1) if has_lines else (0, 2, 0, 0)
    table.pad_edge = has_lines
    for column, width in zip(columns, widths, strict=True):
        justify: JustifyMethod = "right" if column.startswith(">") else "left"
        table.add_column(Text(printable(column.removeprefix(">"))), justify=justify, width=width, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    total = sum(widths) + _width_between(len(widths), has_lines)
    before = out.size
    out.size = ConsoleDimensions(max(total, 1), before.height)
    try:
        out.print(table)
    finally:
        out.size = before


def show_some(heading: str, lines: Sequence[str], most: int = 10) -> None:
    """Print a heading and the first `most` lines to standard error; nothing without lines."""
    if lines:
        warn(heading)
        for line in lines[:most]:
            warn(f"  {line}")
        if len(lines) > most:
            warn(f"  ... and {len(lines) - most} more")
