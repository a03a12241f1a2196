"""What is drawn of a video with predictions: boxes, letters, dial and texts of the overlay, the timeline, and the files of rows."""

import csv
import json
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color, to_rgb
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import find_objects, label
from scipy.signal import fftconvolve
from scipy.special import expit, softmax

from abaw.core.tasks import AU, EXPR, MTL, VA, Task
from abaw.predict.output_rows import OutputRow, output_values, row_writer
from abaw.predict.overlay import Overlay
from abaw.predict.timeline import PersonSeries, Timeline, draw_timeline

pytestmark = pytest.mark.filterwarnings("error")

FONT = str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
GROUND, INK, FAINT = (24, 24, 24), (255, 255, 255), (165, 165, 165)
PEOPLE = ((230, 159, 0), (86, 180, 233), (0, 158, 115))  # colours of the first, second and third
# the colours of the classes, in their order
CLASS_COLOURS = ("#767676", "#d55e00", "#009e73", "#56b4e9", "#e8d838", "#0072b2", "#cc79a7", "#e69f00")
GREY = "#dddddd"
HEIGHT, WIDTH, TEXT_PX = 480, 2400, 20  # of a wide picture: there is room for every text
BOX = (300.0, 100.0, 500.0, 400.0)


def picture(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(0).integers(90, 110, (height, width, 3), dtype=np.uint8)


def row(outputs: dict[str, float | str], person: str = "clip", box: tuple[float, ...] = BOX) -> OutputRow:
    return OutputRow(1, 0.0, person, outputs, box)


def of_va(valence: float, arousal: float) -> dict[str, float]:
    return {"valence": valence, "arousal": arousal}


def of_au(*active: str) -> dict[str, float]:
    return {name: int(name in active) for name in AU.outputs} | {f"{name}_probability": 0.5 for name in AU.outputs}


def of_expr(**shares: float) -> dict[str, float | str]:
    """The first is the likeliest."""
    others = {f"{name}_probability": shares.get(name, 0.0) for name in EXPR.outputs}
    return {"expression": next(iter(shares)), **others}


def places_of(
    panel: np.ndarray, text: str, ink: tuple[int, int, int] = INK, size: int = TEXT_PX
) -> list[tuple[int, int]]:
    """Left and top of each place where a text is written, by drawing it and looking for the same pixels."""
    font = ImageFont.truetype(FONT, size)
    left, top, right, bottom = map(int, font.getbbox(text))
    image = Image.new("RGB", (right + 1, bottom + 1), GROUND)
    ImageDraw.Draw(image).text((0, 0), text, ink, font)
    wanted = np.asarray(image, dtype=float)[top:, left:].sum(axis=2)
    found = panel.astype(float).sum(axis=2)
    products = fftconvolve(found, wanted[::-1, ::-1], "valid")
    squares = fftconvolve(found**2, np.ones_like(wanted), "valid")
    distance = (squares - 2 * products + (wanted**2).sum()) / wanted.size
    return [(int(x) - left, int(y) - top) for y, x in np.argwhere(distance < 20)]


def letter_of(mask: np.ndarray, letters: str) -> str:
    """Which of some letters a mask of ink has the shape of."""

    def outline(ink: np.ndarray) -> np.ndarray:
        rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
        cut = Image.fromarray(255 * ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint8))
        return np.asarray(cut.resize((24, 24)), dtype=float)

    shapes = {}
    for letter in letters:
        image = Image.new("L", (60, 60))
        ImageDraw.Draw(image).text((10, 10), letter, 255, ImageFont.truetype(FONT, 30))
        shapes[letter] = outline(np.asarray(image) > 127)
    return min(letters, key=lambda letter: float(np.abs(shapes[letter] - outline(mask)).mean()))


def is_colour(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (image == np.array(colour, dtype=np.uint8)).all(axis=2)


# the dial


def circle_of(panel: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of the circle: of what is faint and hangs together it is the largest."""
    parts, n_parts = label(is_colour(panel, FAINT), np.ones((3, 3)))
    largest = 1 + int(np.argmax(np.bincount(parts.ravel(), minlength=n_parts + 1)[1:]))
    rows, columns = find_objects(parts)[largest - 1]
    assert 0.95 < (rows.stop - rows.start) / (columns.stop - columns.start) < 1.05
    return rows, columns


def painted_around(panel: np.ndarray, rows: slice, columns: slice, colour: tuple[int, int, int]) -> np.ndarray:
    """(pixels, 2) right of and above the middle of a circle of what has a colour in it."""
    middle = np.array([(columns.start + columns.stop - 1) / 2, (rows.start + rows.stop - 1) / 2])
    inside = np.zeros_like(panel)
    inside[rows, columns] = panel[rows, columns]
    return (np.argwhere(is_colour(inside, colour))[:, ::-1] - middle) * [1, -1]


def dial_of(valence: float, arousal: float) -> tuple[np.ndarray, np.ndarray, float]:
    """(pixels, 2) right of and above the middle of what has the person's colour; the pixels of the dial; its radius."""
    panel = Overlay(VA, ["clip"]).draw(picture(), {"clip": row(of_va(valence, arousal))})[HEIGHT:]
    rows, columns = circle_of(panel)
    painted = painted_around(panel, rows, columns, PEOPLE[0])
    assert len(painted) == is_colour(panel, PEOPLE[0]).sum()
    return painted, panel[rows, columns], (columns.stop - columns.start) / 2


@pytest.mark.parametrize(("valence", "arousal"), [(0.8, 0.3), (-0.8, 0.3), (0.3, -0.8), (-0.5, -0.5), (0.0, 0.9)])
def test_dot_of_the_dial_is_right_of_the_middle_for_valence_and_above_it_for_arousal(valence, arousal) -> None:
    painted, _, radius = dial_of(valence, arousal)
    tip = painted[np.hypot(*painted.T).argmax()]
    far = np.array([valence, arousal]) / np.hypot(valence, arousal)
    assert tip @ far / np.hypot(*tip) > 0.97
    assert np.hypot(*tip) / radius == pytest.approx(np.hypot(valence, arousal), abs=0.12)


def test_dot_of_the_dial_stays_in_its_circle() -> None:
    for valence, arousal in ((1, 1), (-1, 1), (1, -1), (1, 0)):
        painted, _, radius = dial_of(valence, arousal)
        assert 0.9 * radius < np.hypot(*painted.T).max() <= radius + 1
    painted, _, radius = dial_of(0, 0)
    assert np.abs(painted.mean(axis=0)).max() < 1.5 and np.hypot(*painted.T).max() < 0.2 * radius


def test_ends_of_the_dial_are_valence_to_the_right_and_arousal_above() -> None:
    _, side, _ = dial_of(-0.5, -0.5)
    ink, half, part = side.min(axis=2) > 190, len(side) // 2, len(side) // 4
    assert letter_of(ink[:half, -part:], "AV") == "V"
    assert letter_of(ink[:part, half : half + part], "AV") == "A"
    assert not ink[half:].any() and not ink[:, :half].any()


# texts


def test_values_are_written_beside_their_names() -> None:
    panel = Overlay(VA, ["clip"]).draw(picture(), {"clip": row(of_va(0.5, -0.25))})[HEIGHT:]
    assert len(places_of(panel, "valence +0.50  arousal -0.25")) == 1
    assert places_of(panel, "valence -0.25") == places_of(panel, "not seen", FAINT) == []


def test_expression_is_written_with_its_share_and_the_colour_of_its_class() -> None:
    for number, name in enumerate(EXPR.outputs):
        outputs = of_expr(**{name: 0.63, EXPR.outputs[number - 1]: 0.21})
        panel = Overlay(EXPR, ["clip"]).draw(picture(), {"clip": row(outputs)})[HEIGHT:]
        ((left, top),) = places_of(panel, f"{name} 63%")
        swatch = panel[top + TEXT_PX // 2, left - TEXT_PX]
        assert tuple(swatch) == tuple(round(255 * value) for value in to_rgb(CLASS_COLOURS[number])), name


def test_active_units_are_written_and_no_others() -> None:
    overlay = Overlay(AU, ["clip"])
    panel = overlay.draw(picture(), {"clip": row(of_au("AU4", "AU26"))})[HEIGHT:]
    assert len(places_of(panel, "AU4  AU26")) == 1 and is_colour(panel, INK)[:, 200:].sum() == 0
    panel = overlay.draw(picture(), {"clip": row(of_au())})[HEIGHT:]
    assert len(places_of(panel, "no action unit")) == 1


def test_many_units_are_written_in_two_lines() -> None:
    panel = Overlay(AU, ["clip"]).draw(picture(480, 480), {"clip": row(of_au(*AU.outputs))})[480:]
    ((left, top),) = places_of(panel, "AU1  AU2  AU4  AU6  AU7  AU10")
    ((other_left, below),) = places_of(panel, "AU12  AU15  AU23  AU24  AU25  AU26")
    assert left == other_left and top + TEXT_PX <= below <= top + 2 * TEXT_PX


def test_all_that_is_said_of_a_person_is_on_the_panel() -> None:
    outputs = {**of_va(0.5, -0.25), **of_expr(Sadness=0.4), **of_au("AU1", "AU2")}
    panel = Overlay(MTL, ["clip"]).draw(picture(), {"clip": row(outputs)})[HEIGHT:]
    lines = [places_of(panel, text) for text in ("Sadness 40%", "valence +0.50  arousal -0.25", "AU1  AU2")]
    assert [len(places) for places in lines] == [1, 1, 1]
    tops = [places[0][1] for places in lines]
    assert tops == sorted(tops) and np.diff(tops).min() >= TEXT_PX


def test_a_video_without_people_says_so() -> None:
    panel = Overlay(VA, []).draw(picture(), {})[HEIGHT:]
    assert len(places_of(panel, "no face", FAINT)) == 1 and not is_colour(panel, INK).any()


@pytest.mark.parametrize(
    ("time_s", "text"),
    [(0.0, "0:00.0"), (3.2, "0:03.2"), (59.96, "0:59.9"), (754.04, "12:34.0"), (3600.5, "1:00:00.5"), (-0.4, "0:00.0")],
)
def test_time_is_at_the_right_of_the_panel(time_s: float, text: str) -> None:
    panel = Overlay(VA, ["clip"]).draw(picture(), {"clip": row(of_va(0.5, -0.25))}, time_s)[HEIGHT:]
    ((left, top),) = places_of(panel, text, FAINT)
    assert left > 0.9 * WIDTH and top < TEXT_PX and len(places_of(panel, "valence +0.50  arousal -0.25")) == 1


@pytest.mark.parametrize("people", [[], ["clip"], ["clip_left", "clip_right"]])
def test_time_changes_no_size_and_moves_nobody_to_another_line(people: list[str]) -> None:
    """Two cells fill a picture that is 800 wide: the time gets a line of its own, of 1.35 text heights."""
    rows = {name: row(of_expr(Fear=0.5), name) for name in people}
    for width, line_px in ((64, 14), (500, 27), (800, 27), (900, 27), (2400, 27)):
        overlay, image = Overlay(EXPR, people), picture(width=width)
        sizes = {overlay.draw(image, rows, time_s).shape for time_s in (0.0, 59.9, 600.0, 36_000.0)}
        assert len(sizes) == 1 and sizes.pop()[0] - overlay.draw(image, rows).shape[0] in (0, line_px)
    drawn = Overlay(EXPR, ["clip_left", "clip_right"]).draw(
        picture(width=800), {"clip_right": row(of_expr(Fear=0.5))}, 3.2
    )
    assert places_of(drawn[HEIGHT:], "Fear 50%")[0][0] > 400 and len(places_of(drawn[HEIGHT:], "0:03.2", FAINT)) == 1


def test_no_share_is_written_as_certain_that_is_not() -> None:
    for share, text in ((0.994, "Fear 99%"), (0.9996, "Fear >99%"), (1.0, "Fear 100%")):
        panel = Overlay(EXPR, ["clip"]).draw(picture(), {"clip": row(of_expr(Fear=share))})[HEIGHT:]
        assert len(places_of(panel, text)) == 1


# people


LEFT, RIGHT = (300.0, 100.0, 500.0, 400.0), (1500.0, 50.0, 1600.0, 200.0)


def two_people() -> np.ndarray:
    rows = {
        "clip_left": row(of_va(0.5, 0.5), "clip_left", LEFT),
        "clip_right": row(of_va(-0.75, -0.75), "clip_right", RIGHT),
    }
    return Overlay(VA, ["clip_left", "clip_right"]).draw(picture(), rows)


def test_boxes_are_around_the_faces_in_the_colours_of_their_people() -> None:
    image, drawn = picture(), two_people()
    for (left, top, right, bottom), colour in ((LEFT, PEOPLE[0]), (RIGHT, PEOPLE[1])):
        left, top, right, bottom = (int(value) for value in (left, top, right, bottom))
        row_of, column_of = (top + bottom) // 2, (left + right) // 2
        np.testing.assert_array_equal(drawn[top:bottom, left:right], image[top:bottom, left:right])
        edges = {
            "left": (row_of, left - 1),
            "right": (row_of, right),
            "top": (top - 1, column_of),
            "bottom": (bottom, column_of),
        }
        assert {name: tuple(drawn[place]) for name, place in edges.items()} == dict.fromkeys(edges, colour)
        around = ((row_of, left - 3), (row_of, right + 2), (top - 3, column_of), (bottom + 2, column_of))
        assert [tuple(drawn[place]) for place in around] == [(0, 0, 0)] * 4  # dark beside bright
        for far in ((row_of, left - 9), (row_of, right + 9), (bottom + 9, column_of)):
            np.testing.assert_array_equal(drawn[far], image[far])


def test_letters_above_the_boxes_are_those_of_the_panel() -> None:
    drawn = two_people()
    panel = drawn[HEIGHT:]
    for number, (box, letter) in enumerate(((LEFT, "L"), (RIGHT, "R"))):
        left, top = int(box[0]), int(box[1])
        tag = drawn[top - 24 : top - 4, left + 2 : left + 22]
        assert (tag == PEOPLE[number]).all(axis=2).mean() > 0.4
        assert letter_of(tag.sum(axis=2) < 120, "LRA") == letter
        start = number * WIDTH // 2 + TEXT_PX // 2  # the cells of the panel stand side by side
        tag = panel[TEXT_PX // 2 + 2 : TEXT_PX // 2 + 23, start + 2 : start + 23]
        assert (tag == PEOPLE[number]).all(axis=2).mean() > 0.4
        assert letter_of(tag.sum(axis=2) < 120, "LRA") == letter


def test_each_person_has_a_place_on_the_panel_with_own_values_and_dial() -> None:
    panel = two_people()[HEIGHT:]
    ((first, _),) = places_of(panel, "valence +0.50  arousal +0.50")
    ((second, _),) = places_of(panel, "valence -0.75  arousal -0.75")
    assert first < WIDTH // 2 < second
    # the dots: beside the letters each cell has its person's colour up to the right, and down to the left
    for number, sign in ((0, 1), (1, -1)):
        cell = panel[:, number * WIDTH // 2 + 2 * TEXT_PX : (number + 1) * WIDTH // 2]
        right, above = painted_around(cell, *circle_of(cell), PEOPLE[number]).mean(axis=0)
        assert sign * right > 5 and sign * above > 5
        assert not is_colour(cell, PEOPLE[1 - number]).any()


def test_who_is_not_seen_keeps_the_place() -> None:
    people = ["clip_left", "clip_right"]
    drawn = Overlay(VA, people).draw(picture(), {"clip_right": row(of_va(0.5, 0.5), "clip_right", RIGHT)})
    ((missing, _),) = places_of(drawn[HEIGHT:], "not seen", FAINT)
    ((seen, _),) = places_of(drawn[HEIGHT:], "valence +0.50  arousal +0.50")
    assert missing < WIDTH // 2 < seen
    assert not is_colour(drawn[:HEIGHT], PEOPLE[0]).any() and is_colour(drawn[:HEIGHT], PEOPLE[1]).any()


def test_people_stand_below_each_other_on_a_narrow_panel_with_their_numbers() -> None:
    people = ["clip_1", "clip_2", "clip_3"]
    rows = {name: row(of_expr(**{emotion: 0.5}), name) for name, emotion in zip(people, EXPR.outputs, strict=False)}
    panel = Overlay(EXPR, people).draw(picture(480, 480), rows)[480:]
    tops = [places_of(panel, f"{name} 50%")[0][1] for name in EXPR.outputs[:3]]
    assert tops == sorted(tops) and np.diff(tops).min() > TEXT_PX
    for number, top in enumerate(tops):
        tag = panel[top + 2 : top + 23, TEXT_PX // 2 + 2 : TEXT_PX // 2 + 23]
        assert (tag == PEOPLE[number]).all(axis=2).mean() > 0.4
        assert letter_of(tag.sum(axis=2) < 120, "123") == str(number + 1)


def test_letter_of_a_face_at_the_upper_edge_stands_beside_it() -> None:
    box = (300.0, 4.0, 500.0, 200.0)
    drawn = Overlay(VA, ["clip_left", "clip_right"]).draw(picture(), {"clip_left": row(of_va(0, 0), "clip_left", box)})
    rows, columns = np.nonzero(is_colour(drawn[:HEIGHT, :290], PEOPLE[0]))
    assert len(rows) > 200 and rows.max() < 40 and columns.min() > 260


def test_the_picture_that_is_given_is_not_changed() -> None:
    image = picture()
    Overlay(VA, ["clip"]).draw(image, {"clip": row(of_va(0, 0))})
    np.testing.assert_array_equal(image, picture())


# the timeline


class Drawn:
    """The pixels of a figure; they are looked up by the coordinates of its axes."""

    def __init__(self, figure) -> None:
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        self._pixels = np.asarray(canvas.buffer_rgba())[..., :3]

    def has(self, axis, x: float, y: float, colour: str, reach: int = 0, tolerance: float = 0.02) -> bool:
        """A pixel near a point of an axis has a colour."""
        place, from_below = axis.transData.transform((x, y)).round().astype(int)
        line = len(self._pixels) - 1 - from_below
        around = self._pixels[line - reach : line + reach + 1, place - reach : place + reach + 1].reshape(-1, 3) / 255
        return bool((np.abs(around - to_rgb(colour)).max(axis=1) < tolerance).any())

    def darkness(self, axis, x: float, y: float) -> float:
        place, from_below = axis.transData.transform((x, y)).round().astype(int)
        return float(1 - self._pixels[len(self._pixels) - 1 - from_below, place].mean() / 255)


def seen(times_s: list[float], valence: float, arousal: float, classes: list[int], unit: int) -> PersonSeries:
    """Constant valence and arousal, a class of each row, and one unit that is on."""
    chances = np.where(np.arange(12) == unit, 0.95, 0.0)
    certain = np.eye(8)
    rows = [np.array([valence, arousal, one, *certain[one], *chances], dtype=np.float32) for one in classes]
    return PersonSeries(times_s, rows)


TIMES_S = [5.0, 5.2, 5.4, 5.6, 5.8, 6.0, 7.0, 7.2, 7.4, 7.6, 7.8, 8.0]


@pytest.fixture(scope="module")
def timeline():
    """Two people from second 5 to 9; nobody is seen from 6 to 7 and from 8 on, the second not before 5.6 either."""
    people = {
        "clip_left": seen(TIMES_S, 0.5, -0.25, [3] * 9 + [6] * 3, 2),
        "clip_right": seen(TIMES_S[3:], -0.75, 0.25, [1] * 9, 11),
    }
    figure = draw_timeline(MTL, people, "a title", 5.0, 9.0)
    return figure, Drawn(figure)


def test_panels_of_the_timeline_are_of_their_people_and_on_one_axis_of_time(timeline) -> None:
    figure, _ = timeline
    assert figure.get_suptitle() == "a title"
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["clip_left", "", "", "clip_right", "", ""]
    assert [axis.get_ylabel() for axis in figure.axes] == ["value", "probability", ""] * 2
    assert [axis.get_xlabel() for axis in figure.axes] == [""] * 5 + ["time in s"]
    assert all(axis.get_xlim() == (5, 9) for axis in figure.axes)
    assert not figure.axes[0].yaxis_inverted()


def test_lines_of_the_timeline_are_those_of_the_legend(timeline) -> None:
    figure, drawn = timeline
    (legend,) = figure.legends
    handles = {text.get_text(): one for text, one in zip(legend.get_texts(), legend.legend_handles, strict=True)}
    assert {"valence", "arousal", *EXPR.outputs, "not seen"} <= set(handles)
    assert same_color(handles["not seen"].get_facecolor(), GREY)
    for name, colour in zip(EXPR.outputs, CLASS_COLOURS, strict=True):
        assert same_color(handles[name].get_facecolor(), colour)
    for axis, times_s, values in (
        (figure.axes[0], TIMES_S, (0.5, -0.25)),
        (figure.axes[3], TIMES_S[3:], (-0.75, 0.25)),
    ):
        for name, value in zip(("valence", "arousal"), values, strict=True):
            colour = handles[name].get_color()
            (line,) = [one for one in axis.lines if one.get_color() == colour]
            x, y = np.array(line.get_xdata()), np.array(line.get_ydata())
            np.testing.assert_allclose(x[~np.isnan(y)], times_s)
            np.testing.assert_allclose(y[~np.isnan(y)], value)
            assert drawn.has(axis, 7.5, value, colour, 2, 0.3) or name == "arousal"  # arousal is dashed
            assert not drawn.has(axis, 6.5, value, colour, 2, 0.3)


def test_spans_without_a_face_are_shaded_in_every_panel(timeline) -> None:
    figure, drawn = timeline
    for number, axis in enumerate(figure.axes):
        spans = [(round(one.get_x(), 6), round(one.get_x() + one.get_width(), 6)) for one in axis.patches]
        assert spans == ([(5, 5.6)] if number >= 3 else []) + [(6, 7), (8, 9)]
        low, high = axis.get_ylim()
        for second, is_grey in ((5.3, number >= 3), (5.9, False), (6.5, True), (7.5, False), (8.5, True)):
            assert drawn.has(axis, second, low + 0.93 * (high - low), GREY) == is_grey, (number, second)


def test_classes_of_the_timeline_change_when_their_rows_come(timeline) -> None:
    figure, drawn = timeline
    for second, number in ((5.05, 3), (5.9, 3), (7.05, 3), (7.57, 3), (7.63, 6), (7.9, 6)):
        assert drawn.has(figure.axes[1], second, 0.5, CLASS_COLOURS[number]), second
    assert drawn.has(figure.axes[4], 5.8, 0.5, CLASS_COLOURS[1])


def test_a_class_is_drawn_from_a_start_shortly_before_its_first_row() -> None:
    figure = draw_timeline(
        EXPR,
        {"clip": PersonSeries([5.2, 5.4], [np.array([n, *np.eye(8)[n]], dtype=np.float32) for n in (1, 4)])},
        "",
        5,
        5.5,
    )
    drawn, axis = Drawn(figure), figure.axes[0]
    for second, number in ((5.05, 1), (5.3, 1), (5.45, 4)):
        assert drawn.has(axis, second, 0.5, CLASS_COLOURS[number]), second


def test_probabilities_are_stacked_in_the_order_of_the_legend() -> None:
    shares = np.array([0.5, 0, 0, 0.3, 0, 0.2, 0, 0])
    series = PersonSeries([5.0, 5.2, 5.4], [np.array([0, *shares], dtype=np.float32)] * 3)
    figure = draw_timeline(EXPR, {"clip": series}, "", 5, 5.5)
    drawn, axis = Drawn(figure), figure.axes[0]
    for height, number in ((0.25, 0), (0.65, 3), (0.9, 5), (1.2, 0)):
        assert drawn.has(axis, 5.3, height, CLASS_COLOURS[number]), height
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(EXPR.outputs)  # nothing is missing


@pytest.mark.parametrize(
    ("end_s", "label", "texts"),
    [
        (50, "time in s", ["0", "10", "20", "30", "40", "50"]),
        (70, "time in m:ss", ["0:00", "0:10", "0:20", "0:30", "0:40", "0:50", "1:00", "1:10"]),
        (4000, "time in h:mm:ss", ["0:00", "10:00", "20:00", "30:00", "40:00", "50:00", "1:00:00"]),
    ],
)
def test_times_of_long_videos_are_minutes_and_hours(end_s: float, label: str, texts: list[str]) -> None:
    figure = draw_timeline(VA, {"clip": PersonSeries([0.0], [np.zeros(2, dtype=np.float32)])}, "", 0, end_s)
    FigureCanvasAgg(figure).draw()
    axis = figure.axes[0]
    shown = [text.get_text() for text in axis.get_xticklabels() if 0 <= text.get_position()[0] <= end_s]
    assert axis.get_xlabel() == label and shown == texts


def test_units_of_the_timeline_are_dark_beside_their_names(timeline) -> None:
    figure, drawn = timeline
    for axis, active in ((figure.axes[2], "AU4"), (figure.axes[5], "AU26")):
        places = {text.get_text(): y for text, y in zip(axis.get_yticklabels(), axis.get_yticks(), strict=True)}
        assert list(places) == list(AU.outputs)
        dark = {name for name, y in places.items() if drawn.darkness(axis, 7.5, y) > 0.5}
        assert dark == {active}
        heights = [axis.transData.transform((0, y))[1] for y in places.values()]
        assert (np.diff(heights) < 0).all()  # from top to bottom


def save_timeline(path: Path, task: Task, rows: list[OutputRow], start_s: float, end_s: float) -> np.ndarray:
    """The pixels of the picture that is saved."""
    timeline = Timeline(task)
    for one in rows:
        timeline.add(one)
    timeline.save(path, "a title", start_s, end_s, list(dict.fromkeys(one.person for one in rows)))
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def n_pixels(image: np.ndarray, colour) -> int:
    return int(is_colour(image, tuple(round(255 * value) for value in to_rgb(colour))).sum())


def test_saved_timeline_has_the_classes_and_times_of_its_rows(tmp_path: Path) -> None:
    rows = [OutputRow(n + 1, 10 + n / 10, "clip", of_expr(Fear=0.5), BOX) for n in range(20)]
    image = save_timeline(tmp_path / "t.png", EXPR, rows, 10.0, 12.0)
    in_legend = n_pixels(image, CLASS_COLOURS[0])
    assert n_pixels(image, CLASS_COLOURS[3]) > 50 * in_legend > 0
    assert max(n_pixels(image, colour) for colour in (*CLASS_COLOURS[:3], *CLASS_COLOURS[4:], GREY)) < 2 * in_legend


def test_saved_timeline_has_the_probabilities_of_units(tmp_path: Path) -> None:
    """One half everywhere, and all are on."""
    rows = [OutputRow(n + 1, n / 10, "clip", of_au(*AU.outputs), BOX) for n in range(20)]
    image = save_timeline(tmp_path / "t.png", AU, rows, 0.0, 2.0)
    half = np.array(matplotlib.colormaps["Blues"](0.5)[:3])
    assert (np.abs(image / 255 - half).max(axis=2) < 0.02).mean() > 0.3


def test_people_who_are_seen_longest_are_drawn(tmp_path: Path) -> None:
    rows = [
        OutputRow(n + 1, n / 10, f"clip_{person}", of_expr(**{"Fear" if person < 6 else "Happiness": 0.5}), BOX)
        for person in range(8)
        for n in range(20 if person < 6 else 19)
    ]
    image = save_timeline(tmp_path / "t.png", EXPR, rows, 0.0, 2.0)
    in_legend = n_pixels(image, CLASS_COLOURS[0])
    assert n_pixels(image, CLASS_COLOURS[3]) > 100 * in_legend
    assert n_pixels(image, CLASS_COLOURS[4]) < 2 * in_legend


# rows


def test_files_of_rows_have_every_value_under_its_name(tmp_path: Path) -> None:
    outputs = np.random.default_rng(0).normal(0, 2, (3, 22)).astype(np.float32)
    boxes = [(1.5, 22.25, 333.0, 4444.0), (-5.0, 6.0, 7.0, 8.0), (9.0, 10.0, 11.0, 12.0)]
    rows = [OutputRow(n + 1, n / 4, f"-clip_{n}", output_values(MTL, outputs[n]), boxes[n]) for n in range(3)]
    with row_writer(tmp_path, MTL, {"video": "clip.mp4"}) as write:
        for one in rows:
            write(one)
    with (tmp_path / "predictions.csv").open(newline="", encoding="utf-8") as stream:
        written = list(csv.DictReader(stream))
    tree = json.loads((tmp_path / "predictions.json").read_text(encoding="utf-8"))
    assert tree["video"] == "clip.mp4"
    for n, (one, values) in enumerate(zip(written, tree["rows"], strict=True)):
        other = dict(zip(tree["columns"], values, strict=True))
        wanted = {
            "frame": n + 1, "time_s": n / 4,
            **dict(zip(("left", "top", "right", "bottom"), boxes[n], strict=True)),
            **dict(zip(VA.outputs, outputs[n, :2].clip(-1, 1), strict=True)),
            **{f"{name}_probability": value for name, value in zip(EXPR.outputs, softmax(outputs[n, 2:10]), strict=True)},
            **{f"{name}_probability": value for name, value in zip(AU.outputs, expit(outputs[n, 10:]), strict=True)},
            **{name: int(value > 0) for name, value in zip(AU.outputs, outputs[n, 10:], strict=True)},
        }  # fmt: skip
        texts = {"person": f"-clip_{n}", "expression": EXPR.outputs[outputs[n, 2:10].argmax()]}
        assert one.pop("person") == f"'-clip_{n}", "a spreadsheet shows it, and does not compute it"
        one["person"] = f"-clip_{n}"
        assert set(one) == set(other) == set(wanted) | set(texts)
        for name, value in wanted.items():
            assert float(one[name]) == pytest.approx(value, abs=2e-6) and other[name] == pytest.approx(value, abs=2e-6)
        assert all(one[name] == other[name] == value for name, value in texts.items())
