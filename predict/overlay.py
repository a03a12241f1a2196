"""Predictions drawn into the pictures of a video: a box for each person, and their predictions below the picture.

The predictions are on a separate panel, so that no face is covered. Sizes scale with the shorter side of the picture.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from abaw.core.tasks import Task
from abaw.evaluate.prediction_table import SUFFIX
from abaw.evaluate.report.palette import PERSON_COLOURS, expression_colours
from abaw.predict.output_rows import OutputRow

FONT = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
LINES_PER_SIDE = 24  # lines of text that fit into the shorter side of a picture
LEAST_TEXT_PX = 10
CELL_WIDTH = 20  # least width of a person's cell, in text heights
LONGEST_CLOCK = "00:00:00.0"
LINE = 1.35  # line spacing, in text heights
BACKGROUND, TEXT, FAINT = (24, 24, 24), (255, 255, 255), (165, 165, 165)
DIAL = ("valence", "arousal")  # outputs that are drawn as a point on a dial
Colour = tuple[int, int, int]


class Overlay:
    """Draws the rows of a frame into its picture.

    Args:
        task: whose outputs the rows hold.
        people: names of all people in the video, from left to right; each has a fixed cell on the panel.
    """

    def __init__(self, task: Task, people: Sequence[str]) -> None:
        order = ("classes", "regression", "binary")
        self._parts = sorted((part for part, _, _ in task.each()), key=lambda part: order.index(part.kind))
        self._has_dial = any(part.outputs == DIAL for part in self._parts)
        self._people = list(people)

    def draw(
        self, image: NDArray[np.uint8], rows: Mapping[str, OutputRow], time_s: float | None = None
    ) -> NDArray[np.uint8]:
        """A picture (height, width, 3) uint8 RGB with boxes, and a panel below it: (height + more, width, 3).

        Args:
            rows: of this frame, by person.
            time_s: of the frame, shown in the panel; None for an image.
        """
        sheet = Sheet(image.shape[1], image.shape[0])
        clock = "" if time_s is None else clock_text(time_s)
        # as wide as it can get: all frames of a video have one size
        clock_px = round(sheet.font().getlength(LONGEST_CLOCK)) + 2 * sheet.pad if clock else 0
        least_px, n_people = CELL_WIDTH * sheet.text, max(1, len(self._people))
        n_columns = max(1, min(n_people, image.shape[1] // least_px))
        # the clock is at the right of the first line of cells, or below them all if they need the whole width
        is_below = bool(clock) and (image.shape[1] - clock_px) // least_px < n_columns
        cells_px = image.shape[1] - (0 if is_below else clock_px)
        n_lines, height, width = -(-n_people // n_columns), self._cell_height(sheet), cells_px // n_columns
        below_px = round(LINE * sheet.text) if is_below else 0
        panel = Image.new("RGB", (image.shape[1], height * n_lines + below_px), BACKGROUND)
        pen = ImageDraw.Draw(panel)
        if not self._people:
            pen.text((sheet.pad, sheet.pad), "no face", FAINT, sheet.font())
        if clock:
            top = height * n_lines if is_below else sheet.pad
            pen.text((image.shape[1] - sheet.pad, top), clock, FAINT, sheet.font(), anchor="ra")
        shown = image.copy()
        for number, name in enumerate(self._people):
            corner = (number % n_columns * width, number // n_columns * height)
            self._draw_cell(pen, sheet, corner, width, number, rows.get(name))
            if name in rows:
                draw_box(shown, sheet, rows[name].box, self._tag(number), person_colour(number))
        return np.concatenate([shown, np.asarray(panel)])

    def _tag(self, number: int) -> str:
        return tag_of(self._people[number], len(self._people))

    def _n_lines(self) -> int:
        """One for the expression, one for valence and arousal, two for action units."""
        return sum(2 if part.kind == "binary" else 1 for part in self._parts)

    def _cell_height(self, sheet: "Sheet") -> int:
        n_lines = max(self._n_lines(), 3 if self._has_dial else 1)
        return 2 * sheet.pad + round(n_lines * LINE * sheet.text)

    def _draw_cell(
        self, pen: ImageDraw.ImageDraw, sheet: "Sheet", corner: tuple[int, int], width: int, number: int, row: OutputRow | None
    ) -> None:  # fmt: skip
        left, top = corner[0] + sheet.pad, corner[1] + sheet.pad
        right = corner[0] + width - sheet.pad
        tag = self._tag(number)
        if tag:
            _draw_tag(pen, sheet, (left, top), tag, person_colour(number))
            left += round(1.6 * sheet.text)
        if row is None:
            pen.text((left, top), "not seen", FAINT, sheet.font())
            return
        if self._has_dial:
            side = self._cell_height(sheet) - 2 * sheet.pad
            valence, arousal = (float(row.outputs[name]) for name in DIAL)
            _draw_dial(pen, (left, top, side), valence, arousal, person_colour(number))
            left += side + sheet.pad
        for part in self._parts:
            for text, colour in lines_of(part, row, sheet, right - left):
                if colour is not None:
                    swatch = round(0.9 * sheet.text)
                    pen.rectangle(
                        (left, top + sheet.text // 8, left + swatch, top + sheet.text // 8 + swatch), colour, FAINT
                    )
                shift = round(1.3 * sheet.text) if colour is not None else 0
                pen.text((left + shift, top), text, TEXT, sheet.font_for(text, right - left - shift))
                top += round(LINE * sheet.text)


class Sheet:
    """Sizes in pixels for a picture of some width and height.

    Attributes:
        side: the shorter side of the picture.
        text: height of a line of text.
        pad: a margin.
        line: width of a box's outline.
    """

    def __init__(self, width: int, height: int) -> None:
        self.side = side = min(width, height)
        self.text = max(LEAST_TEXT_PX, round(side / LINES_PER_SIDE))
        self.pad = max(3, self.text // 2)
        self.line = max(2, round(side / 240))

    def font(self) -> ImageFont.FreeTypeFont:
        """The usual font."""
        return sized_font(self.text)

    def font_for(self, text: str, width: float) -> ImageFont.FreeTypeFont:
        """The usual font, or a smaller one if the text would be too wide."""
        wide = self.font().getlength(text)
        return self.font() if wide <= width else sized_font(max(6, int(self.text * max(width, 1) / wide)))


@cache
def sized_font(size: int) -> ImageFont.FreeTypeFont:
    """The font of overlays with this height in pixels."""
    return ImageFont.truetype(str(FONT), size)


def clock_text(time_s: float) -> str:
    """`0:03.2`, from an hour on `1:00:03.2`."""
    tenths = max(0, int(time_s * 10 + 1e-6))
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest / 10:04.1f}" if hours else f"{minutes}:{rest / 10:04.1f}"


def person_colour(number: int) -> Colour:
    """The colour of person `number` from 0."""
    return _rgb(PERSON_COLOURS[number % len(PERSON_COLOURS)])


def tag_of(person: str, n_people: int) -> str:
    """L, R or the number at the end of a person's name; empty if there is only one person."""
    end = person.rpartition("_")[2] if n_people > 1 else ""
    return end if end.isdigit() else end[:1].upper()


def class_colour(task: Task, name: str) -> Colour:
    """The colour of a class of a task."""
    return _rgb(expression_colours(task.outputs)[task.outputs.index(name)])


def _rgb(text: str) -> Colour:
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def lines_of(task: Task, row: OutputRow, sheet: Sheet, width: float) -> list[tuple[str, Colour | None]]:
    """Lines of text about one plain task, each with the colour of the swatch in front of it, or None."""
    if task.kind == "regression":
        return [("  ".join(f"{name} {float(row.outputs[name]):+.2f}" for name in task.outputs), None)]
    if task.kind == "classes":
        name = str(row.outputs[task.columns[0]])
        probability = float(row.outputs[f"{name}{SUFFIX}"])
        share = ">99%" if 0.995 <= probability < 1 else f"{probability:.0%}"  # 100% would claim too much
        return [(f"{name} {share}", class_colour(task, name))]
    active = [name for name in task.outputs if row.outputs[name]]
    if not active:
        return [("no action unit", None)]
    half = len(active)
    if sheet.font().getlength("  ".join(active)) > width:
        half = -(-len(active) // 2)
    return [(text, None) for text in ("  ".join(active[:half]), "  ".join(active[half:])) if text]


def _draw_dial(
    pen: ImageDraw.ImageDraw, square: tuple[int, int, int], valence: float, arousal: float, colour: Colour
) -> None:
    """A circle with valence from left to right and arousal upwards, and a dot. `square` is left, top and side."""
    left, top, side = square
    radius = side / 2
    middle = (left + radius, top + radius)
    line = max(1, side // 48)
    pen.ellipse((left, top, left + side, top + side), outline=FAINT, width=line)
    pen.line((left, middle[1], left + side, middle[1]), FAINT, line)
    pen.line((middle[0], top, middle[0], top + side), FAINT, line)
    size = max(8, side // 6)
    pen.text((left + side - 2 * line, middle[1] - line), "V", TEXT, sized_font(size), anchor="rs")
    pen.text((middle[0] + 3 * line, top + 2 * line), "A", TEXT, sized_font(size), anchor="lt")
    dot = max(3, side / 11)
    # the square of valence and arousal is fitted into the circle: corners are on its edge
    reach = (radius - dot) / max(1.0, float(np.hypot(valence, arousal)))
    x, y = middle[0] + valence * reach, middle[1] - arousal * reach
    pen.line((*middle, x, y), colour, 2 * line)
    pen.ellipse((x - dot, y - dot, x + dot, y + dot), fill=colour, outline=BACKGROUND, width=line)


def _draw_tag(pen: ImageDraw.ImageDraw, sheet: Sheet, corner: tuple[int, int], tag: str, colour: Colour) -> None:
    side = round(1.25 * sheet.text)
    pen.rectangle((*corner, corner[0] + side, corner[1] + side), colour)
    middle = (corner[0] + side / 2, corner[1] + side / 2)
    pen.text(middle, tag, (0, 0, 0), sheet.font_for(tag, side), anchor="mm")


def draw_box(
    image: NDArray[np.uint8], sheet: Sheet, box: tuple[float, float, float, float], tag: str, colour: Colour
) -> None:
    """Draw a frame around a face, dark next to bright so that it is visible on any background, and the tag above it."""
    left, top, right, bottom = (round(value) for value in box)
    for wide, paint in ((sheet.line + max(1, sheet.line // 2), (0, 0, 0)), (sheet.line, colour)):
        _draw_frame(image, (left, top, right, bottom), wide, paint)
    if tag:
        side = round(1.25 * sheet.text)
        # above the box, or left of it if there is no space above: never over the face
        corner = (
            (left, top - sheet.line - side - 1) if top - sheet.line - side > 0 else (left - side - sheet.line - 1, top)
        )
        if corner[0] >= 0:
            stamp = Image.new("RGB", (side + 1, side + 1))
            _draw_tag(ImageDraw.Draw(stamp), sheet, (0, 0), tag, colour)
            area = image[corner[1] : corner[1] + side + 1, corner[0] : corner[0] + side + 1]
            area[:] = np.asarray(stamp)[: area.shape[0], : area.shape[1]]


def _draw_frame(image: NDArray[np.uint8], box: tuple[int, int, int, int], wide: int, colour: Colour) -> None:
    """Paint the pixels up to `wide` pixels outside a box."""
    height, width = image.shape[:2]
    left, top, right, bottom = box
    rows = slice(max(0, top - wide), max(0, min(height, bottom + wide)))
    columns = slice(max(0, left - wide), max(0, min(width, right + wide)))
    image[max(0, top - wide) : max(0, top), columns] = colour
    image[max(0, bottom) : max(0, bottom + wide), columns] = colour
    image[rows, max(0, left - wide) : max(0, left)] = colour
    image[rows, max(0, right) : max(0, right + wide)] = colour
