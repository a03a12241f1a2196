"""Small charts as SVG that stands in the page: lines and points, with the values as tooltips."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from abaw.evaluate.report.markup import Markup, join, tag

WIDTH, HEIGHT = 380, 260
LEFT, RIGHT, TOP, BOTTOM = 76, 12, 26, 44  # room for axes and title
N_TICKS = 5
STEPS = (1, 2, 2.5, 5, 10)


@dataclass(frozen=True)
class Series:
    """Points of one run.

    Attributes:
        run: its number, which gives colour and dash.
        x, y: (points,); those that are not finite are left out.
        tips: what is said of each point.
        sizes: radius of each in pixels; a line without points where there are none.
        is_line: points are joined.
    """

    run: int
    x: Sequence[float]
    y: Sequence[float]
    tips: Sequence[str] = ()
    sizes: Sequence[float] = ()
    is_line: bool = True


@dataclass(frozen=True)
class Axis:
    """An axis: its title with the unit, and its range (by default that of the points)."""

    title: str
    low: float | None = None
    high: float | None = None

    def fitted(self, values: Sequence[float]) -> tuple[float, float]:
        """The range, a little wider than the values where it is not given."""
        known = [value for value in values if math.isfinite(value)] or [0.0]
        low, high = min(known), max(known)
        margin = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
        return low - margin if self.low is None else self.low, high + margin if self.high is None else self.high


def ticks(low: float, high: float) -> list[float]:
    """Round numbers in a range, about `N_TICKS`."""
    rough = (high - low) / N_TICKS
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in STEPS if step * magnitude >= rough * 0.999) * magnitude
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def chart(title: str, x: Axis, y: Axis, series: Sequence[Series], diagonal: bool = False) -> Markup:
    """Draw series over two linear axes.

    Args:
        diagonal: draw the line on which both are equal.
    """
    x_range = x.fitted([value for one in series for value in one.x])
    y_range = y.fitted([value for one in series for value in one.y])
    place_x, place_y = _scale(x_range, LEFT, WIDTH - RIGHT), _scale(y_range, HEIGHT - BOTTOM, TOP)
    parts = [tag("text", {"x": 14, "y": 16, "class": "chart-title"}, title)]
    for value in ticks(*x_range):
        at = place_x(value)
        parts.append(tag("line", {"x1": at, "x2": at, "y1": TOP, "y2": HEIGHT - BOTTOM, "class": "grid"}))
        parts.append(tag("text", {"x": at, "y": HEIGHT - BOTTOM + 16, "text-anchor": "middle"}, f"{value:g}"))
    for value in ticks(*y_range):
        at = place_y(value)
        parts.append(tag("line", {"x1": LEFT, "x2": WIDTH - RIGHT, "y1": at, "y2": at, "class": "grid"}))
        parts.append(tag("text", {"x": LEFT - 6, "y": at + 4, "text-anchor": "end"}, f"{value:g}"))
    if diagonal:
        ends = max(x_range[0], y_range[0]), min(x_range[1], y_range[1])
        corners = {"x1": place_x(ends[0]), "y1": place_y(ends[0]), "x2": place_x(ends[1]), "y2": place_y(ends[1])}
        parts.append(tag("line", {**corners, "class": "diagonal"}))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(tag("text", {"x": (LEFT + WIDTH - RIGHT) / 2, "y": HEIGHT - 8, "text-anchor": "middle"}, x.title))
    turned = {"x": 14, "y": middle, "text-anchor": "middle", "transform": f"rotate(-90 14 {middle})"}
    parts.append(tag("text", turned, y.title))
    for one in series:
        parts += _draw(one, place_x, place_y)
    label = f"{title}: {y.title} over {x.title}"
    return tag(
        "svg", {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "role": "img", "aria-label": label, "class": "chart"}, *parts
    )


Scale = Callable[[float], float]


def _scale(values: tuple[float, float], start: float, end: float) -> Scale:
    """Maps a range of values to a range of pixels."""
    step = (end - start) / (values[1] - values[0])
    return lambda value: round(start + (value - values[0]) * step, 1)


def _draw(one: Series, place_x: Scale, place_y: Scale) -> list[Markup]:
    kept = [i for i in range(len(one.x)) if math.isfinite(one.x[i]) and math.isfinite(one.y[i])]
    places = [(place_x(one.x[i]), place_y(one.y[i])) for i in kept]
    drawn = []
    if one.is_line and places:
        path = "M" + " L".join(f"{x} {y}" for x, y in places)
        drawn.append(tag("path", {"d": path, "class": f"line run{one.run}"}))
    for i, (x, y) in zip(kept, places, strict=True):
        if one.sizes:
            tip = tag("title", {}, one.tips[i]) if one.tips else ""
            drawn.append(_mark(one.run, x, y, one.sizes[i], tip))
    return drawn


def _mark(run: int, x: float, y: float, size: float, tip: str) -> Markup:
    """A circle, or for every other run a square: told apart without colours, too."""
    look = {"class": f"mark run{run}"}
    if run % 2:
        corner = {"x": round(x - size, 1), "y": round(y - size, 1), "width": 2 * size, "height": 2 * size}
        return tag("rect", {**look, **corner}, tip)
    return tag("circle", {**look, "cx": x, "cy": y, "r": size}, tip)


def sizes_of(counts: Sequence[int]) -> list[float]:
    """Radius of points that stand for many values: their area grows with the share of all."""
    total = max(1, sum(counts))
    return [round(2 + 6 * float(np.sqrt(count / total)), 1) for count in counts]


def row_of(charts: Sequence[Markup]) -> Markup:
    """Charts side by side, below each other where there is no room."""
    return tag("div", {"class": "charts"}, join(charts))
