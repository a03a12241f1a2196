"""The list of videos with the traces of the chosen one; or what was answered wrongly, of images and whole videos."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from abaw.core.tasks import Task
from abaw.evaluate.report.content import Reported, VideoErrors
from abaw.evaluate.report.markup import Markup, cell, join, row_name, table, tag
from abaw.evaluate.report.palette import class_colours
from abaw.evaluate.report.sections import ERRORS, letter, section, titled
from abaw.evaluate.report.traces import NO_SHARE, NO_VALUE, SHARE_SCALE, VALUE_SCALE, columns_of, pack
from abaw.evaluate.report.worst_spans import Pictures, spans_with_faces
from abaw.evaluate.scores.calibration import missing_share
from abaw.evaluate.scores.metrics import decide

MOST_ANSWERS = 2000  # rows of the list of wrong answers
MOST_PICTURES = 300

NameOf = Callable[[str, int], str]


def traces(task: Task, runs: Sequence[Reported], videos: Sequence[VideoErrors]) -> Markup:
    """The list of videos, the worst first, and the place where the chosen one is drawn."""
    n_runs = len(runs)
    head = ["video", ">frames", ">seconds", ">no crop"]
    for part, _, _ in task.each():
        head += [f">{part.name} {titled('error', i, n_runs)}" for i in range(n_runs)]
    rows = [_video_row(i, video, n_runs) for i, video in enumerate(videos)]
    what = "; ".join(f"{part.name}: {ERRORS[part.kind]}" for part, _, _ in task.each())
    listed = _searchable(
        "videos", table(f"Error over the labelled frames. {what}", head, rows, {"class": "sortable", "id": "videos"})
    )
    return section("traces", "Videos", listed, _stage(task, runs))


def _video_row(index: int, video: VideoErrors, n_runs: int) -> list[Markup]:
    found = video.first
    name = tag("th", {"scope": "row"}, tag("button", {"type": "button", "data-video": index}, video.video))
    seconds = len(found.outputs) / found.fps if found.fps else float("nan")
    share = missing_share(found)
    cells = [
        cell(f"{len(found.outputs):,}", len(found.outputs)),
        cell(f"{seconds:.1f}" if found.fps else "–", seconds),
        cell(f"{share:.1%}", share),
    ]
    for errors in video.by_part:
        cells += [cell(f"{error:.3f}" if error == error else "–", error) for error in errors[:n_runs]]
    return [name, *cells]


def _searchable(name: str, listed: Markup) -> Markup:
    """A table under a field that filters its rows."""
    field = tag(
        "p",
        {"class": "filter", "hidden": True},
        tag("label", {"for": f"filter-{name}"}, "Show rows with "),
        Markup(f'<input type="search" id="filter-{name}" data-table="{name}" autocomplete="off">'),
        tag("output", {"for": f"filter-{name}"}),
    )
    return tag("div", {"class": "list"}, field, listed)


def _stage(task: Task, runs: Sequence[Reported]) -> Markup:
    """Where traces are drawn: heading, legend, canvas, values under the cursor, faces."""
    classes = [
        tag("li", {}, tag("span", {"class": "swatch", "style": f"background:{colour}"}), name)
        for part, _, _ in task.each()
        if part.kind == "classes"
        for colour, name in zip(class_colours(len(part.outputs)), part.outputs, strict=True)
    ]
    lines = [tag("li", {}, line_sample("label"), "label")]
    lines += [tag("li", {}, line_sample(f"run{i}"), letter(i, len(runs)) or "predicted") for i in range(len(runs))]
    lines.append(tag("li", {}, tag("span", {"class": "swatch missing"}), "no crop"))
    lines.append(tag("li", {}, tag("span", {"class": "swatch worst"}), "worst spans"))
    slider = {"id": "canvas", "tabindex": 0, "role": "slider", "aria-label": "Time", "aria-valuenow": 0}
    return tag(
        "div",
        {"id": "stage"},
        tag("h3", {"id": "chosen", "aria-live": "polite"}, "Choose a video"),
        tag("ul", {"class": "legend"}, *lines, *classes),
        tag(
            "div",
            {"id": "plot"},
            tag("canvas", slider),
            tag("div", {"id": "cursor", "hidden": True}),
            Markup('<img id="face" alt="" hidden>'),
        ),
        tag("div", {"id": "readout", "class": "readout"}),
        tag("div", {"id": "faces"}),
        tag("noscript", {}, "Traces are drawn by a script, which is switched off."),
    )


def line_sample(look: str) -> Markup:
    """A piece of line as a run's, or the label's, are drawn."""
    line = tag("line", {"x1": 0, "y1": 5, "x2": 26, "y2": 5, "class": f"line {look}"})
    return tag("svg", {"class": "sample", "viewBox": "0 0 26 10", "aria-hidden": "true"}, line)


def payload(
    task: Task, runs: Sequence[Reported], videos: Sequence[VideoErrors], pictures: Pictures | None
) -> dict[str, Any]:
    """What the page's script draws; `columns`, `scales` and `videos` are explained in `traces`."""
    columns = columns_of(task, len(runs))
    packed = zip(videos, spans_with_faces(videos, pictures), strict=True)
    return {
        "runs": [letter(i, len(runs)) or "predicted" for i in range(len(runs))],
        "parts": [
            {"name": part.name, "kind": part.kind, "outputs": part.outputs, "low": part.low, "high": part.high}
            for part, _, _ in task.each()
        ],
        "columns": [vars(column) for column in columns],
        "scales": {"i2": [VALUE_SCALE, NO_VALUE], "u1": [SHARE_SCALE, NO_SHARE]},
        "colours": class_colours(max(len(part.outputs) for part, _, _ in task.each())),
        "videos": [
            {"name": video.video, "spans": spans, **pack(task, columns, video.given)} for video, spans in packed
        ],
    }


def wrong_answers(
    task: Task, runs: Sequence[Reported], videos: Sequence[VideoErrors], pictures: Pictures | None, name_of: NameOf
) -> Markup:
    """Images or whole videos that a run has wrong, those of which the first is surest on top."""
    found = [answer for video in videos for answer in _wrong_rows(task, video)]
    found.sort(key=lambda answer: -answer[2])
    n_runs = len(runs)
    head = ["picture"] * (pictures is not None) + [task.level, "label"]
    for i in range(n_runs):
        head += [titled("predicted", i, n_runs), f">{titled('probability', i, n_runs)}"]
    rows = []
    for place, (video, row, _) in enumerate(found[:MOST_ANSWERS]):
        wanted = pictures if place < MOST_PICTURES else None
        rows.append(_answer_row(task, video, row, name_of(video.video, row), pictures is not None, wanted))
    n_all = sum(int(task.valid(video.first.labels).any(axis=1).sum()) for video in videos)
    by = "a run has" if n_runs > 1 else "the run has"
    caption = f"{len(found):,} of {n_all:,} {task.level}s that {by} wrong"
    caption += f"; the surest {MOST_ANSWERS:,} are listed" if len(found) > MOST_ANSWERS else ""
    listed = table(caption, head, rows, {"class": "sortable", "id": "answers"})
    return section("wrong", "Wrong answers", _searchable("answers", listed))


def _wrong_rows(task: Task, video: VideoErrors) -> list[tuple[VideoErrors, int, float]]:
    """Each row that a run has wrong, and the largest probability that the first wrong run gives."""
    labels = video.first.labels[:, 0]
    valid = task.valid(video.first.labels)[:, 0]
    sure = np.full(len(labels), np.nan)
    for found in video.given:
        if found is not None:
            wrong = valid & (decide(task, found.outputs)[:, 0] != labels)
            sure = np.where(wrong & np.isnan(sure), _probabilities(found.outputs).max(axis=1), sure)
    return [(video, row, float(sure[row])) for row in np.flatnonzero(~np.isnan(sure)).tolist()]


def _probabilities(outputs: NDArray) -> NDArray[np.float64]:
    return np.asarray(softmax(outputs.astype(np.float64), axis=1), dtype=np.float64)


def _answer_row(
    task: Task, video: VideoErrors, row: int, name: str, has_pictures: bool, pictures: Pictures | None
) -> list[Markup]:
    picture = pictures.small(video.video, row) if pictures is not None else None
    shown = tag("img", {"src": picture, "alt": "", "class": "small"}) if picture else Markup("")
    cells = [tag("td", {}, shown)] * has_pictures
    cells += [row_name(name), cell(task.outputs[int(video.first.labels[row, 0])])]
    for found in video.given:
        if found is None:
            cells += [cell("–"), cell("–", float("nan"))]
            continue
        given = _probabilities(found.outputs[row : row + 1])[0]
        right = given.argmax() == video.first.labels[row, 0]
        mark = tag("small", {}, " right") if right and len(video.given) > 1 else ""
        cells += [cell(join([task.outputs[int(given.argmax())], mark])), cell(f"{given.max():.2f}", float(given.max()))]
    return cells
