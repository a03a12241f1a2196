"""The page of a report: its parts put into one HTML file that needs nothing else."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from string import Template

from abaw import __version__
from abaw.core.tasks import Task
from abaw.evaluate.report import sections, video_sections
from abaw.evaluate.report.content import Reported, videos_by_error
from abaw.evaluate.report.face_crops import Faces
from abaw.evaluate.report.markup import Markup, escape, join, script_json, tag
from abaw.evaluate.report.palette import RUN_COLOURS
from abaw.evaluate.report.worst_spans import Pictures

SCRIPTS = ("tables.js", "drawing.js", "traces.js")  # in the order in which they run
DASHES = ("none", "7 3", "2 3", "9 3 2 3")  # of runs, so that they differ without colours, too


def render(task: Task, runs: Sequence[Reported], split: str, faces: Faces | None) -> str:
    """The whole page as text."""
    ordered = videos_by_error(task, runs)
    pictures = Pictures(faces.read) if faces is not None else None
    parts = [sections.scores(task, runs), sections.outputs(task, runs), sections.confusions(task, runs)]
    content: dict[str, object] = {}
    if task.level == "frame":
        parts += [sections.by_missing(task, runs, ordered), video_sections.traces(task, runs, ordered)]
        content = video_sections.payload(task, runs, ordered, pictures)
    else:
        shown = pictures if task.level == "image" else None
        parts.append(video_sections.wrong_answers(task, runs, ordered, shown, _namer(task, faces)))
    parts[3:3] = [sections.learning(runs), sections.calibrations(task, runs)]
    parts.append(sections.settings(runs))
    title = f"{', '.join(run.name for run in runs)} on {split}"
    script = "\n".join(map(_resource, SCRIPTS))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    return Template(_resource("report.html")).substitute(
        title=escape(title),
        digest=digest,
        style=_resource("report.css") + _run_styles(len(runs)),
        header=_header(task, runs, split),
        main=join(parts),
        content=script_json(content),
        script=script,
    )


def _resource(name: str) -> str:
    return files("abaw.evaluate.report").joinpath(name).read_text(encoding="utf-8")


def _header(task: Task, runs: Sequence[Reported], split: str) -> Markup:
    items = []
    for i, run in enumerate(runs):
        name = tag("strong", {}, sections.letter(i, len(runs)) + " ") if len(runs) > 1 else ""
        items.append(tag("li", {}, video_sections.line_sample(f"run{i}") if len(runs) > 1 else "", name, run.name))
    said = f"The score is the {task.measure.name}. Made by abaw {__version__}."
    return join(
        [
            tag("h1", {}, f"Report on {task.name}, {split}"),
            tag("ul", {"class": "legend runs"}, *items),
            tag("p", {}, said),
        ]
    )


def _namer(task: Task, faces: Faces | None) -> video_sections.NameOf:
    """What an image or a whole video is called: an image by its file where that is at hand."""

    def name_of(video: str, row: int) -> str:
        if task.level == "video":
            return video
        file = faces.file(video, row) if faces is not None else None
        return f"{video}/{file.name}" if file is not None else f"{video}, image {row + 1}"

    return name_of


def _run_styles(n_runs: int) -> str:
    """Colours and dashes of the runs as variables of the page; the script reads them, too."""
    rules = []
    for place, scheme in enumerate(("light", "dark")):
        values = "".join(f"--run{i}:{RUN_COLOURS[i % len(RUN_COLOURS)][place]};" for i in range(n_runs))
        rules.append(f":root{{{values}}}" if scheme == "light" else _when_dark(values))
    for i in range(n_runs):
        dash = DASHES[i % len(DASHES)]
        rules.append(f":root{{--dash{i}:{dash}}}.run{i}{{stroke:var(--run{i});stroke-dasharray:var(--dash{i})}}")
        rules.append(f".mark.run{i}{{fill:var(--run{i});stroke-dasharray:none}}")
    return "\n".join(rules)


def _when_dark(values: str) -> str:
    return f"@media screen and (prefers-color-scheme:dark){{:root:not([data-print]){{{values}}}}}"
