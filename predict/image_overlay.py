"""Predictions drawn into an image: a box around each face, and a plate with its predictions next to the box.

A plate is above its box if it fits there without covering a face or another plate, else below, else where it covers least.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from abaw.core.tasks import Task
from abaw.predict.output_rows import OutputRow
from abaw.predict.overlay import (
    BACKGROUND,
    LEAST_TEXT_PX,
    LINE,
    TEXT,
    Colour,
    Overlay,
    Sheet,
    class_colour,
    draw_box,
    lines_of,
    person_colour,
    sized_font,
    tag_of,
)

QUALITY = 92
WIDEST = 1.4  # of a plate, in widths of its face, while the text stays legible
LEAST_PART = 45  # the text is at least 1/45 of the shorter side
Rectangle = tuple[int, int, int, int]  # left, top, right and bottom


def draw_faces(task: Task, image: NDArray[np.uint8], rows: Sequence[OutputRow]) -> NDArray[np.uint8]:
    """An image with boxes and plates; without rows, with a panel below that says so.

    Args:
        image: (height, width, 3) uint8 RGB.
        rows: of all faces in it.
    """
    if not rows:
        return Overlay(task, []).draw(image, {})
    sheet, drawn = Sheet(image.shape[1], image.shape[0]), image.copy()
    boxes: list[Rectangle] = [_whole(row.box) for row in rows]
    for number, row in enumerate(rows):
        draw_box(drawn, sheet, row.box, "", _colour_of(task, row, number))
    taken = list(boxes)
    for number, (row, box) in enumerate(zip(rows, boxes, strict=True)):
        tag = tag_of(row.person, len(rows))
        plate = _plate(_texts(task, row, sheet, tag), sheet, box[2] - box[0], _colour_of(task, row, number))
        height, width = min(plate.shape[0], drawn.shape[0]), min(plate.shape[1], drawn.shape[1])
        others = [one for one in taken if one is not box]
        left, top = _corner(box, (width, height), sheet.line, drawn.shape, others)
        drawn[top : top + height, left : left + width] = plate[:height, :width]
        taken.append((left, top, left + width, top + height))
    return drawn


def save_jpeg(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an image (height, width, 3) uint8 RGB."""
    path.write_bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(image), quality=QUALITY))


def _whole(box: tuple[float, float, float, float]) -> Rectangle:
    left, top, right, bottom = (round(side) for side in box)
    return left, top, right, bottom


def _colour_of(task: Task, row: OutputRow, number: int) -> Colour:
    """Of the expression, or of the person if there is none."""
    for part, _, _ in task.each():
        if part.kind == "classes":
            return class_colour(part, str(row.outputs[part.columns[0]]))
    return person_colour(number)


def _texts(task: Task, row: OutputRow, sheet: Sheet, tag: str) -> list[str]:
    """Lines about a face, the first one behind the letter or number of the person."""
    first, *rest = [text for part, _, _ in task.each() for text, _ in lines_of(part, row, sheet, np.inf)]
    return [f"{tag} {first}".strip(), *rest]


def _plate(texts: Sequence[str], sheet: Sheet, face_px: int, colour: Colour) -> NDArray[np.uint8]:
    """Lines of text on a dark ground with an edge in the colour of the box."""
    longest = max(texts, key=sheet.font().getlength)
    fitting = sheet.text * WIDEST * face_px / sheet.font().getlength(longest)
    least = max(LEAST_TEXT_PX, round(sheet.side / LEAST_PART))
    size = min(sheet.text, max(least, int(fitting)))
    font, pad, edge = sized_font(size), max(2, size // 4), max(2, size // 5)
    width = round(font.getlength(longest)) + edge + 2 * pad
    image = Image.new("RGB", (width, round(len(texts) * LINE * size) + pad), BACKGROUND)
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 0, edge - 1, image.height), colour)
    for number, text in enumerate(texts):
        pen.text((edge + pad, pad // 2 + round(number * LINE * size)), text, TEXT, font)
    return np.asarray(image)


def _corner(
    box: Rectangle, size: tuple[int, int], line: int, shape: tuple[int, ...], others: Sequence[Rectangle]
) -> tuple[int, int]:
    """Left and top of a plate of a size: the first place that covers nothing, or the one that covers least."""
    (width, height), gap = size, 2 * line
    tops = (box[1] - gap - height, box[3] + gap)
    lefts = (box[0] - gap, box[2] + gap - width)
    places = [(left, top) for top in tops for left in lefts]
    places += [(box[2] + gap, box[1]), (box[0] - gap - width, box[1])]
    inside = [(left, top) for left, top in places if 0 <= top <= shape[0] - height]
    corners = [(min(max(left, 0), shape[1] - width), top) for left, top in inside]
    corners.append((min(max(box[0], 0), shape[1] - width), min(max(box[3] - height, 0), shape[0] - height)))
    return min(
        corners,
        key=lambda corner: sum(
            _shared((*corner, corner[0] + width, corner[1] + height), one) for one in (*others, box)
        ),
    )


def _shared(first: Rectangle, second: Rectangle) -> int:
    """Pixels that two rectangles share."""
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(0, width) * max(0, height)
