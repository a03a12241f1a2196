"""Small charts of a report, lines and points over two axes, as data; `macros.html` draws them as SVG."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 380, 260
LEFT, RIGHT, TOP, BOTTOM = 76, 12, 26, 44  # room for axes and title
N_TICKS = 5
STEPS = (1, 2, 2.5, 5, 10)
LABEL = -1  # in place of the number of a run
BAR, BAR_GAP = 9, 7  # height of a bar, and space between those of one name and the next, in pixels


@dataclass(frozen=True)
class PointSeries:
    """Points of one run.

    Attributes:
        run: its number, which gives colour and dash.
        x, y: (points,); points that are not finite are left out.
        tips: tooltip of each point.
        sizes: radius of each point in pixels; without sizes only the line is drawn.
        is_line: points are joined by a line.
    """

    run: int
    x: Sequence[float]
    y: Sequence[float]
    tips: Sequence[str] = ()
    sizes: Sequence[float] = ()
    is_line: bool = True


@dataclass(frozen=True)
class Axis:
    """An axis: its title with the unit, and its range, by default that of the points."""

    title: str
    low: float | None = None
    high: float | None = None

    def fitted(self, values: Sequence[float]) -> tuple[float, float]:
        """The range, by default a little wider than the values."""
        known = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = min(known), max(known)
        margin = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
        return low - margin if self.low is None else self.low, high + margin if self.high is None else self.high


def ticks(low: float, high: float) -> list[float]:
    """About `N_TICKS` round numbers in a range."""
    rough = (high - low) / N_TICKS
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in STEPS if step * magnitude >= rough * 0.999) * magnitude
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


@dataclass(frozen=True)
class Mark:
    """A point of a run: `shape` with the attributes `position` and the tooltip `tip`."""

    shape: str
    position: Mapping[str, float]
    tip: str


@dataclass(frozen=True)
class DrawnSeries:
    """The number of a run, or LABEL; the path of its line (empty if it has none), and its points of a kind."""

    run: int
    path: str
    marks: Sequence[Mark]
    kind: Literal["mark", "mark bar", "density"] = "mark"

    @property
    def name(self) -> str:
        """Class of what belongs to the labels or to the run."""
        return "label" if self.run == LABEL else f"run{self.run}"

    @property
    def look(self) -> str:
        """Classes of its points."""
        return self.kind if self.kind == "density" else f"{self.kind} {self.name}"


@dataclass(frozen=True)
class Chart:
    """A chart; all positions are in pixels.

    Attributes:
        title, x_title, y_title: its words.
        x_ticks, y_ticks: positions of the grid lines, and their values.
        series: in the order in which they are drawn.
        diagonal: ends of the line on which both axes are equal; None for none.
    """

    title: str
    x_title: str
    y_title: str
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    series: Sequence[DrawnSeries]
    diagonal: Mapping[str, float] | None = None
    size: tuple[int, int] = (WIDTH, HEIGHT)
    frame: tuple[int, int, int, int] = (LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM)

    @property
    def label(self) -> str:
        """Description for screen readers."""
        return f"{self.title}: {self.y_title} over {self.x_title}" if self.y_title else f"{self.title}: {self.x_title}"


def chart(title: str, x: Axis, y: Axis, series: Sequence[PointSeries], diagonal: bool = False) -> Chart:
    """Place series on two linear axes.

    Args:
        diagonal: draw the line on which both are equal.
    """
    x_range = x.fitted([value for points in series for value in points.x])
    y_range = y.fitted([value for points in series for value in points.y])
    place_x, place_y = _scale(x_range, LEFT, WIDTH - RIGHT), _scale(y_range, HEIGHT - BOTTOM, TOP)
    corners = None
    if diagonal:
        ends = max(x_range[0], y_range[0]), min(x_range[1], y_range[1])
        corners = {"x1": place_x(ends[0]), "y1": place_y(ends[0]), "x2": place_x(ends[1]), "y2": place_y(ends[1])}
    return Chart(
        title,
        x.title,
        y.title,
        [(place_x(value), f"{value:g}") for value in ticks(*x_range)],
        [(place_y(value), f"{value:g}") for value in ticks(*y_range)],
        [_placed(points, place_x, place_y) for points in series],
        corners,
    )


Scale = Callable[[float], float]


def _scale(values: tuple[float, float], start: float, end: float) -> Scale:
    """Maps a range of values to a range of pixels."""
    step = (end - start) / (values[1] - values[0])
    return lambda value: round(start + (value - values[0]) * step, 1)


def _placed(series: PointSeries, place_x: Scale, place_y: Scale) -> DrawnSeries:
    finite = [i for i in range(len(series.x)) if math.isfinite(series.x[i]) and math.isfinite(series.y[i])]
    points = [(place_x(series.x[i]), place_y(series.y[i])) for i in finite]
    path = "M" + " L".join(f"{x} {y}" for x, y in points) if series.is_line and points else ""
    marks = [
        _mark(series.run, *point, series.sizes[i], series.tips[i] if series.tips else "")
        for i, point in zip(finite, points, strict=True)
        if series.sizes
    ]
    return DrawnSeries(series.run, path, marks)


def _mark(run: int, x: float, y: float, size: float, tip: str) -> Mark:
    """A circle, or for every other run a square: they differ without colours, too."""
    if run % 2:
        corner = {"x": round(x - size, 1), "y": round(y - size, 1), "width": 2 * size, "height": 2 * size}
        return Mark("rect", corner, tip)
    return Mark("circle", {"cx": x, "cy": y, "r": size}, tip)


def sizes_of(counts: Sequence[int]) -> list[float]:
    """Radius of points that represent many values: the area of a point grows with its share of them."""
    total = max(1, sum(counts))
    return [round(2 + 6 * float(np.sqrt(count / total)), 1) for count in counts]


def bar_chart(title: str, axis: Axis, names: Sequence[str], values: Mapping[int, Sequence[float]]) -> Chart:
    """Horizontal bars from 0 for each name, those of the labels and of each run below each other.

    Args:
        values: by LABEL or number of the run, a value for each name.
    """
    pitch = BAR * len(values) + BAR_GAP
    height = TOP + pitch * len(names) + BOTTOM
    high = axis.fitted([0, *(value for of_run in values.values() for value in of_run)])[1]
    place_x = _scale((0, high), LEFT, WIDTH - RIGHT)
    series = []
    for place, (run, of_run) in enumerate(values.items()):
        marks = []
        for number, value in enumerate(of_run):
            top = TOP + BAR_GAP / 2 + number * pitch + place * BAR
            position = {"x": LEFT, "y": top, "width": round(place_x(value) - LEFT, 1), "height": BAR - 1}
            marks.append(Mark("rect", position, f"{names[number]}: {value:.1%}"))
        series.append(DrawnSeries(run, "", marks, "mark bar"))
    y_ticks = [(TOP + (number + 0.5) * pitch, name) for number, name in enumerate(names)]
    x_ticks = [(place_x(value), f"{value:g}") for value in ticks(0, high)]
    frame = (LEFT, WIDTH - RIGHT, TOP, height - BOTTOM)
    return Chart(title, axis.title, "", x_ticks, y_ticks, series, size=(WIDTH, height), frame=frame)


def density_chart(title: str, x: Axis, y: Axis, counts: NDArray[np.int64], diagonal: bool = False) -> Chart:
    """A histogram over two axes with ranges: the opacity of a cell grows with the root of its count.

    Args:
        counts: (x bins, y bins) of equal widths over the ranges of the axes.
        diagonal: draw the line on which both are equal.
    """
    drawn = chart(title, x, y, [], diagonal)
    width, height = (WIDTH - RIGHT - LEFT) / len(counts), (HEIGHT - BOTTOM - TOP) / counts.shape[1]
    marks = []
    for column, row in np.argwhere(counts).tolist():
        opacity = round(math.sqrt(counts[column, row] / counts.max()), 2)
        left, top = round(LEFT + column * width, 1), round(HEIGHT - BOTTOM - (row + 1) * height, 1)
        position = {"x": left, "y": top, "width": round(width, 1), "height": round(height, 1), "fill-opacity": opacity}
        marks.append(Mark("rect", position, ""))
    return replace(drawn, series=[DrawnSeries(LABEL, "", marks, "density")])
