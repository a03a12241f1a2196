"""The page of a report: the template `report.html` filled in, one HTML file that needs nothing else.

Templates escape all text except `Markup`, which is used only for abaw's style and script.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from abaw import __version__
from abaw.core.tasks import Task
from abaw.evaluate.report import answer_tables, distributions, sections, video_sections
from abaw.evaluate.report.cells import letter
from abaw.evaluate.report.content import Reported, videos_by_error
from abaw.evaluate.report.face_crops import Faces
from abaw.evaluate.report.palette import RUN_COLOURS
from abaw.evaluate.report.worst_spans import Pictures

SCRIPTS = ("tables.js", "drawing.js", "traces.js")  # in this order
DASHES = ("none", "7 3", "2 3", "9 3 2 3")  # of runs, so that they differ without colours, too


def render(
    task: Task, runs: Sequence[Reported], split: str, faces: Faces | None, about: Mapping[str, str] | None = None
) -> str:
    """The whole page as text; see `abaw.evaluate.report.html.write_report`."""
    script = "\n".join(map(_resource, SCRIPTS))
    return TEMPLATES.get_template("report.html").render(
        task=task,
        runs=runs,
        split=split,
        letters=[letter(i, len(runs)) for i in range(len(runs))],
        about=[("made", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC by abaw {__version__}"), *(about or {}).items()],
        style=Markup(_resource("report.css") + _run_styles(len(runs))),
        script=Markup(script),
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
        scores=sections.scores(task, runs),
        published=sections.published(task),
        outputs=sections.outputs(task, runs),
        distributions=distributions.distributions(task, runs),
        distribution_note=distributions.NOTE,
        confusions=sections.confusions(task, runs),
        learning=sections.learning(runs),
        without_epochs=[run.name for run in runs if not run.epochs],
        calibrations=sections.calibrations(task, runs),
        settings=sections.settings(runs),
        **_of_videos(task, runs, faces),
    )


def _of_videos(task: Task, runs: Sequence[Reported], faces: Faces | None) -> dict[str, Any]:
    """The parts about single videos: their traces, or for images and whole videos the wrong answers."""
    ordered = videos_by_error(task, runs)
    pictures = Pictures(faces.read) if faces is not None else None
    if task.level != "frame":
        shown = pictures if task.level == "image" else None
        if task.kind != "classes":
            answers = answer_tables.largest_errors(task, runs, ordered, _namer(task, faces))
        else:
            answers = video_sections.wrong_answers(task, runs, ordered, shown, _namer(task, faces))
        heading = "Wrong answers" if task.kind == "classes" else "Largest errors"
        return {"content": {}, "wrong_answers": answers, "answers_heading": heading}
    return {
        "content": video_sections.payload(task, runs, ordered, pictures),
        "errors_by_missing": sections.errors_by_missing(task, runs, ordered),
        "scores_by_missing": sections.missing_ranges(task, runs),
        "videos": video_sections.videos_table(task, runs, ordered),
        "classes": video_sections.class_legend(task),
    }


def _resource(name: str) -> str:
    return files("abaw.evaluate.report").joinpath(name).read_text(encoding="utf-8")


TEMPLATES = Environment(
    loader=FunctionLoader(_resource), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}


def _namer(task: Task, faces: Faces | None) -> video_sections.NameOf:
    """The name of an image or a whole video: of an image that of its file, if that is available."""

    def name_of(video: str, row: int) -> str:
        if task.level == "video":
            return video
        file = faces.file(video, row) if faces is not None else None
        return f"{video}/{file.name}" if file is not None else f"{video}, image {row + 1}"

    return name_of


def _run_styles(n_runs: int) -> str:
    """Colours and dashes of the runs as CSS variables, which the script reads as well."""
    rules = []
    for ground, scheme in enumerate(("light", "dark")):
        values = "".join(f"--run{i}:{RUN_COLOURS[i % len(RUN_COLOURS)][ground]};" for i in range(n_runs))
        rules.append(f":root{{{values}}}" if scheme == "light" else _when_dark(values))
    for i in range(n_runs):
        dash = DASHES[i % len(DASHES)]
        rules.append(f":root{{--dash{i}:{dash}}}.run{i}{{stroke:var(--run{i});stroke-dasharray:var(--dash{i})}}")
        rules.append(f".mark.run{i}{{fill:var(--run{i});stroke-dasharray:none}}")
    return "\n".join(rules)


def _when_dark(values: str) -> str:
    return f"@media screen and (prefers-color-scheme:dark){{:root:not([data-print]){{{values}}}}}"
