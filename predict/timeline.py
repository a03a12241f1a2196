"""A picture of a video's predictions over time, with a panel for each person and kind of output."""

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator
from numpy.typing import NDArray

from abaw.core.files import writing
from abaw.core.output_stream import OutputStream
from abaw.core.tasks import Task
from abaw.evaluate.prediction_table import SUFFIX
from abaw.evaluate.report.palette import ACTIVE_COLOUR, MISSING_COLOUR, expression_colours, run_colour
from abaw.predict.output_rows import OutputRow
from abaw.predict.overlay import clock_text

TIMELINE = "timeline.png"
MOST_PEOPLE = 6  # the table has all of them
N_COLUMNS = 1800  # of strips: about as many as the picture is pixels wide
GAP_S = 0.25  # a face that is missing for longer is shown as missing
DPI = 130
STEPS_S = (10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)  # between two times on the axis
MOST_TICKS = 12
LINE_STYLES = ("-", (0, (5, 1.5)), ":", "-.")  # of the outputs of a task
HEIGHTS = {"regression": 1.6, "classes": 1.3, "binary": 1.9}  # inches
STRIP = (1.08, 1.3)  # of the likeliest class, above the probabilities from 0 to 1
CLOCK_S = 60  # from this duration on, times are minutes and seconds


@dataclass
class PersonSeries:
    """What is drawn for a person: the time of each row, and its (values,) numbers.

    The numbers of each part of the task follow one another: valence and arousal; the number of the likeliest class and
    the probability of each; the probability of each action unit.
    """

    times_s: list[float] = field(default_factory=list)
    values: list[NDArray[np.float32]] = field(default_factory=list)


class Timeline:
    """Collects the rows of a video and draws them.

    Args:
        task: whose outputs the rows hold.
    """

    def __init__(self, task: Task) -> None:
        self._task = task
        self._people: dict[str, PersonSeries] = {}

    def add(self, row: OutputRow) -> None:
        """Take the next row in temporal order."""
        series = self._people.setdefault(row.person, PersonSeries())
        series.times_s.append(row.time_s)
        series.values.append(self._numbers(row))

    def _numbers(self, row: OutputRow) -> NDArray[np.float32]:
        """(values,), see `PersonSeries`."""
        numbers: list[float] = []
        for part, _, _ in self._task.each():
            if part.kind == "regression":
                numbers += [float(row.outputs[name]) for name in part.outputs]
                continue
            if part.kind == "classes":
                numbers.append(part.outputs.index(str(row.outputs[part.columns[0]])))
            numbers += [float(row.outputs[f"{name}{SUFFIX}"]) for name in part.outputs]
        return np.array(numbers, dtype=np.float32)

    def save(self, path: Path, title: str, start_s: float, end_s: float, names: Sequence[str] = ()) -> None:
        """Draw as PNG.

        Args:
            start_s, end_s: of the video.
            names: of the people, in the order of their panels.
        """
        people = [name for name in names if name in self._people]
        longest = set(sorted(people, key=lambda name: -len(self._people[name].times_s))[:MOST_PEOPLE])
        shown = {name: self._people[name] for name in people if name in longest}
        if len(shown) < len(people):
            title += f" ({len(shown)} of {len(people)} people, those seen longest)"
        figure = draw_timeline(self._task, shown, title, start_s, end_s)
        with writing(path) as partial, OutputStream(partial) as stream:
            figure.savefig(stream, format="png", dpi=DPI)


def draw_timeline(task: Task, people: Mapping[str, PersonSeries], title: str, start_s: float, end_s: float) -> Figure:
    """Draw the panels of all people from top to bottom, on one time axis."""
    parts = [part for part, _, _ in task.each()]
    heights = [HEIGHTS[part.kind] for part in parts] * max(1, len(people))
    figure = Figure(figsize=(11, 1.2 + sum(heights) + 0.25 * max(1, len(people))), layout="constrained")
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights, sharex=True)[:, 0]
    end_s = max(end_s, start_s + 1e-3)
    for axis in axes:
        axis.set_xlim(start_s, end_s)
    for (name, series), panels in zip(people.items(), axes.reshape(-1, len(parts)), strict=False):
        times_s, values = np.array(series.times_s), np.stack(series.values)
        start = 0
        for part, axis in zip(parts, panels, strict=True):
            width = len(part.outputs) + (part.kind == "classes")
            _PAINTERS[part.kind](axis, part, times_s, values[:, start : start + width])
            start += width
        if len(people) > 1:
            panels[0].set_title(name, loc="left", fontsize=10)
    if not people:
        for axis in axes:
            axis.set(yticks=[], facecolor=MISSING_COLOUR)
        axes[0].text(0.5, 0.5, "no face", transform=axes[0].transAxes, ha="center", va="center", fontsize=11)
    _label_times(axes[-1])
    figure.suptitle(textwrap.fill(title, 110), fontsize=12)
    entries = [entry for part in parts for entry in _entries(part)]
    if not people or any(_gaps(axes[0], np.array(series.times_s)) for series in people.values()):
        entries.append(Patch(color=MISSING_COLOUR, label="not seen"))
    figure.legend(handles=entries, loc="outside lower center", ncols=min(9, len(entries)), frameon=False, fontsize=8)
    return figure


def _label_times(axis: Axes) -> None:
    """Seconds, or in long videos minutes and seconds, below an axis."""
    start_s, end_s = axis.get_xlim()
    if end_s - start_s < CLOCK_S:
        axis.set_xlabel("time in s")
        return
    axis.set_xlabel("time in h:mm:ss" if end_s >= 3600 else "time in m:ss")
    step_s = next((step for step in STEPS_S if (end_s - start_s) / step <= MOST_TICKS), STEPS_S[-1])
    axis.xaxis.set_major_locator(MultipleLocator(step_s))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda time_s, _: clock_text(time_s).partition(".")[0]))


def _gaps(axis: Axes, times_s: NDArray[np.float64]) -> list[tuple[float, float]]:
    """Start and end of the spans without a row, within the range of the axis."""
    start_s, end_s = axis.get_xlim()
    edges = np.concatenate([[start_s], times_s, [end_s]])
    return [(edges[i], edges[i + 1]) for i in np.flatnonzero(np.diff(edges) > GAP_S)]


def _shade(axis: Axes, times_s: NDArray[np.float64]) -> None:
    for start_s, end_s in _gaps(axis, times_s):
        axis.axvspan(start_s, end_s, color=MISSING_COLOUR, lw=0)


def _on_grid(axis: Axes, times_s: NDArray[np.float64], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """(columns, values) at equally spaced times: the last row before each time, NaN in gaps."""
    start_s, end_s = axis.get_xlim()
    middles = start_s + (np.arange(N_COLUMNS) + 0.5) * (end_s - start_s) / N_COLUMNS
    rows = np.searchsorted(times_s, middles, side="right") - 1
    shown = values[rows.clip(min=0)].copy()
    shown[rows < 0] = values[0]  # only up to a gap, see below
    for gap_start_s, gap_end_s in _gaps(axis, times_s):
        shown[(middles > gap_start_s) & (middles < gap_end_s)] = np.nan
    return shown


def _paint_values(axis: Axes, task: Task, times_s: NDArray[np.float64], values: NDArray[np.float32]) -> None:
    _shade(axis, times_s)
    axis.axhline(0, color="#999999", lw=0.6)
    breaks = np.flatnonzero(np.diff(times_s) > GAP_S) + 1
    for i, column in enumerate(values.T):
        broken = np.insert(column, breaks, np.nan)
        axis.plot(np.insert(times_s, breaks, times_s[breaks]), broken, **_line_look(i), lw=1.3)
    axis.set(ylim=(task.low - 0.05, task.high + 0.05), yticks=np.linspace(task.low, task.high, 5))
    axis.set_ylabel("value")


def _line_look(output: int) -> dict[str, Any]:
    return {"color": run_colour(output), "ls": LINE_STYLES[output % len(LINE_STYLES)]}


def _paint_classes(axis: Axes, task: Task, times_s: NDArray[np.float64], values: NDArray[np.float32]) -> None:
    """The likeliest class as a strip, and below it the probabilities of all classes, stacked up to 1."""
    shown = _on_grid(axis, times_s, values)
    colours = expression_colours(task.outputs)
    start_s, end_s = axis.get_xlim()
    axis.imshow(
        shown[:, :1].T, aspect="auto", extent=(start_s, end_s, *STRIP), cmap=ListedColormap(colours), vmin=-0.5,
        vmax=len(task.outputs) - 0.5, interpolation="nearest",
    )  # fmt: skip
    edges_s = np.linspace(start_s, end_s, N_COLUMNS + 1)[:-1]
    tops = np.cumsum(shown[:, 1:], axis=1)
    for number, colour in enumerate(colours):
        low = tops[:, number - 1] if number else np.where(np.isnan(tops[:, 0]), np.nan, 0)
        axis.fill_between(edges_s, low, tops[:, number], color=colour, lw=0, step="post")
    _shade(axis, times_s)
    axis.set(xlim=(start_s, end_s), ylim=(0, STRIP[1]), yticks=[0, 0.5, 1])
    axis.set_ylabel("probability")


def _paint_units(axis: Axes, task: Task, times_s: NDArray[np.float64], values: NDArray[np.float32]) -> None:
    shown = _on_grid(axis, times_s, values).T
    extent = (*axis.get_xlim(), len(task.outputs), 0)
    axis.imshow(shown, aspect="auto", extent=extent, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    _shade(axis, times_s)
    axis.set_yticks(np.arange(len(task.outputs)) + 0.5, task.outputs, fontsize=7)


_PAINTERS: dict[str, Callable[[Axes, Task, NDArray[np.float64], NDArray[np.float32]], None]] = {
    "regression": _paint_values,
    "classes": _paint_classes,
    "binary": _paint_units,
}


def _entries(task: Task) -> list[Line2D | Patch]:
    if task.kind == "regression":
        return [Line2D([], [], **_line_look(i), label=name) for i, name in enumerate(task.outputs)]
    if task.kind == "classes":
        colours = expression_colours(task.outputs)
        return [Patch(color=colour, label=name) for colour, name in zip(colours, task.outputs, strict=True)]
    return [Patch(color=ACTIVE_COLOUR, label="probability 1")]
