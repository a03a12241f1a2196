"""Tasks as TOML files, and the records of tasks that runs keep, which have the same keys.

    name = "smile"                      in lower case; names the labels in the store
    level = "clip"                      what a label belongs to: frame, clip or image
    kind = "regression"                 regression, classes, binary (one output) or multi-label
    outputs = ["intensity"]             or the names of the classes
    range = [0, 1]                      of regression alone
    invalid = -1                        marks a label as not annotated
    measure = "pearson"                 ccc, pearson, mse; macro-f1, weighted-f1, accuracy
    also = ["ccc"]                      further scores that are shown; ap, too
    loss = "mse"

    [labels]                            a table, or one for each split: train = "train.csv", val = "val.csv"
    table = "labels.csv"
    clip = "clip"                       the column with the video; likewise frame, split, person
    target = ["intensity"]              the columns with the labels; one with the class
    first = 1                           the number of the first class, 0 by default

    [submission]
    rows = "clips"                      images (a row for each image), clips (for each clip), videos (a file for each)
    header = "clip,intensity"
    columns = ["clip", "label"]         see `abaw.core.task_types.RowFiles`; also order, suffix, zip

A task file is data of others: nothing in it is run, and tables cannot lie outside the data folder.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from abaw.core.errors import UsageError, did_you_mean
from abaw.core.names import has_unsafe_characters
from abaw.core.task_types import (
    CLASS,
    CLIP,
    FRAME,
    LABEL,
    PROBABILITIES,
    Kind,
    LabelFiles,
    LabelTable,
    Level,
    Measure,
    OfOutput,
    Pooled,
    RowFiles,
    SubmissionFiles,
    Task,
)
from abaw.core.toml_files import read_toml

SUFFIX = ".toml"
MAX_TEXT, MAX_WINDOW = 2000, 1_000_000
NAME = re.compile("[a-z][a-z0-9_-]{0,39}")
COLUMN_WORDS = (CLIP, FRAME, LABEL, CLASS, PROBABILITIES)
MEANT = {"video": CLIP, "picture": "image", "photo": "image", "class": "classes", "classification": "classes"}
IN_RECORDS = ("multi",)  # words that only records have
LEVELS: dict[str, Level] = {"frame": "frame", "clip": "video", "image": "image"}
ROWS_OF: dict[Level, tuple[str, ...]] = {
    "frame": ("images", "videos"),
    "video": ("clips", "videos"),
    "image": ("images",),
}
KINDS: dict[str, Kind] = {
    "regression": "regression",
    "classes": "classes",
    "binary": "binary",
    "multi-label": "binary",
    "multi": "multi",  # of several parts, in records alone
}
SHORT: dict[str | None, str] = {
    "ccc": "CCC",
    "pearson": "r",
    "mse": "-MSE",
    "f1": "F1",
    "accuracy": "accuracy",
    None: "sum",
}
MEASURES: dict[Kind, dict[str, tuple[OfOutput | None, Pooled]]] = {
    "regression": {"ccc": ("ccc", "mean"), "pearson": ("pearson", "mean"), "mse": ("mse", "mean")},
    "classes": {"macro-f1": ("f1", "mean"), "weighted-f1": ("f1", "weighted"), "accuracy": ("f1", "all")},
    "binary": {"macro-f1": ("f1", "mean"), "weighted-f1": ("f1", "weighted"), "accuracy": ("accuracy", "mean")},
    "multi": {"sum": (None, "mean")},
}
OTHERS: dict[str, tuple[OfOutput, Pooled]] = {  # that plug-ins have
    f"{of}-{pooled}": (of, pooled)
    for of in ("ccc", "pearson", "mse", "f1", "accuracy")
    for pooled in ("mean", "all", "weighted")
}
LOSS: dict[Kind, str] = {"regression": "mse", "classes": "cross-entropy", "binary": "bce", "multi": "emma"}
AP = "ap"
KEYS = (
    *("name", "level", "kind", "outputs", "columns", "range", "invalid", "measure", "also", "score", "short", "loss"),
    *("window", "parts", "labels", "submission"),
)
LABEL_KEYS = ("table", "train", "val", "test", CLIP, FRAME, "split", "person", "target", "first", "folders", "header")
SUBMISSION_KEYS = ("rows", "header", "headers", "columns", "order", "suffix", "zip")


def read_task_file(path: Path) -> Task:
    """The task of a TOML file.

    Raises:
        UsageError: it is missing or not the file of a task; one sentence says what is wrong and what is near.
    """
    try:
        content = read_toml(path)
    except FileNotFoundError:
        others = [other.name for other in path.parent.glob(f"*{SUFFIX}")] if path.parent.is_dir() else []
        near = did_you_mean(path.name, sorted(others))
        raise UsageError(f"No task file {path}. {near}Name another, or a task of `abaw list tasks`.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}). Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not valid TOML ({str(error)[:300]}). Correct the file.") from error
    task = task_of(content, str(path))
    if clause := _contradiction(task, "invalid" in content):
        raise UsageError(f"{path}: {clause}. Correct it.")
    return task


def _contradiction(task: Task, has_invalid: bool) -> str:
    """A clause about keys of a file that do not fit together; empty if all do. Records of older versions may have such.

    Args:
        has_invalid: the file says which labels are not annotated.
    """
    has_label = task.low <= task.invalid <= task.high and task.kind != "multi"
    if has_label and task.kind == "regression" and not has_invalid:
        outside = f"{math.floor(task.low) - 1:g}"
        return (
            f"range has {task.invalid:g}, which marks a label as not annotated unless the file says otherwise; add a number "
            f"outside of the range, such as invalid = {outside}"
        )
    if has_label and task.kind != "regression":
        return (
            f"invalid cannot be {task.invalid:g}, as labels are kept as {task.low:g} to {task.high:g}, whatever their first "
            "number is; leave invalid out, and the cells of what is not annotated empty"
        )
    if task.level == "image" and task.window != 1:
        return (
            f"window cannot be {task.window} where level is image, as images have no neighbours in time; leave it out"
        )
    bad = [name for name in task.outputs if task.kind == "regression" and ("/" in name or "\\" in name)]
    if bad:
        return f"outputs of regression name files, so they cannot have a slash: {bad[0][:60]!r}"
    rows = task.submission.rows.form if task.submission.rows else "images" if task.submission.images else ""
    if rows and rows not in ROWS_OF[task.level]:
        word = next(word for word, level in LEVELS.items() if level == task.level)
        return f"submission.rows cannot be {rows} where level is {word}; choose {' or '.join(ROWS_OF[task.level])}"
    return ""


def task_of(content: object, source: str) -> Task:
    """The task that the keys of a file or record describe.

    Args:
        source: of the content, which begins the messages.

    Raises:
        UsageError: it is not a task.
    """
    return _Reader(content, source).task()


class _Reader:
    """Reads the keys of a task one by one, each checked."""

    def __init__(self, content: object, source: str, where: str = "") -> None:
        self._source, self._where = source, where
        if not isinstance(content, Mapping):
            self.fail(f"{where or 'a task'} must be a table of keys, found {str(content)[:60]!r}")
        self._content: Mapping[str, Any] = content

    def fail(self, clause: str) -> NoReturn:
        raise UsageError(f"{self._source}: {clause}. Correct it.")

    def table(self, key: str) -> "_Reader":
        return _Reader(self._content.get(key, {}), self._source, f"{key}.")

    def check_keys(self, known: Sequence[str]) -> None:
        for key in self._content:
            if key not in known:
                near = _other_place(str(key), self._where) or did_you_mean(str(key), known)
                raise UsageError(
                    f"{self._source}: unknown key {self._where + str(key)!r}. {near or self._all_of(known)}".strip()
                )

    @staticmethod
    def _all_of(known: Sequence[str]) -> str:
        return f"Known keys: {', '.join(known)}."

    def has(self, key: str) -> bool:
        return key in self._content

    def text(self, key: str, default: str | None = None) -> str:
        value = self._content.get(key, default)
        if value is None:
            self.fail(f"{self._where}{key} is missing")
        if not isinstance(value, str) or len(value) > MAX_TEXT or has_unsafe_characters(value):
            self.fail(f"{self._where}{key} must be one line of text, found {str(value)[:60]!r}")
        return value

    def choice(self, key: str, known: Sequence[str], default: str | None = None) -> str:
        value = self.text(key, default)
        if value not in known:
            near = f"Did you mean {MEANT[value]}? " if MEANT.get(value) in known else did_you_mean(value, known)
            shown = [word for word in known if word not in IN_RECORDS]
            raise UsageError(
                f"{self._source}: {self._where}{key} cannot be {value[:60]!r}. {near}Choose one of: {', '.join(shown)}."
            )
        return value

    def texts(self, key: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        value = self._content.get(key, default)
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list | tuple) or not values or len(values) > MAX_TEXT:
            self.fail(f"{self._where}{key} must be a list of names, found {str(value)[:60]!r}")
        for one in values:
            is_name = isinstance(one, str) and one.strip() == one and 0 < len(one) <= 100 and "," not in one
            if not is_name or has_unsafe_characters(one):
                self.fail(f"{self._where}{key} must be names without commas, found {str(one)[:60]!r}")
        return tuple(values)

    def number(self, key: str, default: float | None = None) -> float:
        return self._as_number(key, self._content.get(key, default))

    def _as_number(self, key: str, value: object) -> float:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
            or abs(value) > 1e9
        ):
            self.fail(f"{self._where}{key} must be a number, found {str(value)[:60]!r}")
        return value

    def whole_number(self, key: str, default: int, least: int, most: int) -> int:
        value = self.number(key, default)
        if value != int(value) or not least <= value <= most:
            self.fail(f"{self._where}{key} must be an integer from {least:,} to {most:,}, found {value:g}")
        return int(value)

    def flag(self, key: str) -> bool:
        value = self._content.get(key, False)
        if not isinstance(value, bool):
            self.fail(f"{self._where}{key} must be true or false, found {str(value)[:60]!r}")
        return value

    def task(self) -> Task:
        self.check_keys(KEYS)
        name = self.text("name")
        if not NAME.fullmatch(name):
            self.fail(f"name must be up to 40 lower-case letters, digits, - and _, found {name[:60]!r}")
        kind_word = self.choice("kind", list(KINDS))
        kind = KINDS[kind_word]
        if kind == "multi":
            return self._joined(name)
        outputs = self.texts("outputs")
        if kind_word == "binary" and len(outputs) > 1:
            self.fail(f"kind binary has one output, found {len(outputs)}; several are multi-label")
        low, high = self._range(kind, len(outputs))
        level = LEVELS[self.choice("level", list(LEVELS))]
        labels, submission = self.table("labels"), self.table("submission")
        columns = self.texts("columns", (LABEL,) if kind == "classes" else outputs)
        try:
            return Task(
                name=name,
                kind=kind,
                outputs=outputs,
                columns=columns,
                invalid=self.number("invalid", -1),
                low=low,
                high=high,
                loss=self.text("loss", LOSS[kind]),
                measure=self._measure(kind, outputs),
                level=level,
                window=self.whole_number("window", {"frame": 100, "video": 75, "image": 1}[level], 1, MAX_WINDOW),
                labels=labels.label_files(),
                submission=submission.submission_files(kind, len(outputs)),
                table=labels.label_table(columns, level),
            )
        except ValueError as error:
            self.fail(str(error))

    def _joined(self, name: str) -> Task:
        """A task of several parts."""
        parts = self._content.get("parts")
        if not isinstance(parts, list | tuple) or not 2 <= len(parts) <= 20:
            self.fail("parts must be a list of tasks")
        tasks = tuple(task_of(part, f"{self._source}, part {number}") for number, part in enumerate(parts, start=1))
        try:
            return Task(
                name=name,
                kind="multi",
                outputs=tuple(output for task in tasks for output in task.outputs),
                columns=tuple(column for task in tasks for column in task.columns),
                invalid=math.nan,
                low=math.nan,
                high=math.nan,
                loss=self.text("loss", LOSS["multi"]),
                measure=self._measure("multi", ()),
                level=LEVELS[self.choice("level", list(LEVELS))],
                window=self.whole_number("window", 100, 1, MAX_WINDOW),
                parts=tasks,
                labels=self.table("labels").label_files(),
                submission=self.table("submission").submission_files(),
            )
        except ValueError as error:
            self.fail(str(error))

    def _range(self, kind: Kind, n_outputs: int) -> tuple[float, float]:
        if kind == "regression":
            ends = self._content.get("range")
            if ends is None:
                self.fail("range is missing: the lowest and the highest label, such as [0, 1]")
            if not isinstance(ends, list | tuple) or len(ends) != 2:
                self.fail(f"range must be the lowest and the highest label, such as [0, 1], found {str(ends)[:60]!r}")
            return self._as_number("range", ends[0]), self._as_number("range", ends[1])
        if self.has("range"):
            self.fail("range is for regression alone; leave it out")
        return 0, n_outputs - 1 if kind == "classes" else 1

    def _measure(self, kind: Kind, outputs: Sequence[str]) -> Measure:
        known = MEASURES[kind]
        key = self.text("measure")
        kinds = [
            kind_word for kind_word, kind in KINDS.items() if key in MEASURES[kind] and kind_word not in IN_RECORDS
        ]
        if key not in known and kinds:
            self.fail(f"measure {key} is of {', '.join(kinds)}; one of {kind} is {', '.join(known)}")
        if key not in OTHERS:
            self.choice("measure", list(known))
        of_output, pooled = known.get(key) or OTHERS[key]
        extra = [*known, AP] if kind == "binary" or (kind == "classes" and len(outputs) == 2) else list(known)
        also = self.texts("also") if self.has("also") else ()
        for one in also:
            if one not in extra:
                near = did_you_mean(one, extra)
                raise UsageError(
                    f"{self._source}: also cannot have {one[:60]!r} for {kind} of {len(outputs)} outputs. {near}Choose "
                    f"of: {', '.join(extra)}."
                )
        short = self.text("short", SHORT[of_output])
        return Measure(self.text("score", _in_words(key, kind, outputs)), short, of_output, pooled, also)

    def label_files(self) -> LabelFiles | None:
        if not self.has("folders"):
            return None
        return LabelFiles(self.texts("folders"), self.text("header"))

    def label_table(self, columns: Sequence[str], level: Level) -> LabelTable | None:
        self.check_keys(LABEL_KEYS)
        files = tuple((split, self.path(split)) for split in ("train", "val", "test") if self.has(split))
        if self.has("table"):
            files = (("", self.path("table")), *files)
        if not files:
            return None
        if self.has("table") and len(files) > 1:
            self.fail("labels has a table of all splits and one of a split; keep one of them")
        split = self.text("split", "split" if self.has("table") else "")
        targets = self.texts("target", columns)
        if len(targets) != len(columns):
            self.fail(f"labels.target has {len(targets)} columns; {len(columns)} are needed, for {', '.join(columns)}")
        frame = self.text("frame", "frame" if level == "frame" else "")
        if level != "frame" and frame:
            self.fail("labels.frame is for labels of frames; leave it out")
        return LabelTable(
            files, self.text(CLIP, CLIP), targets, frame, split, self.text("person", ""),
            self.whole_number("first", 0, 0, 1),
        )  # fmt: skip

    def path(self, key: str) -> str:
        """A path inside the data folder."""
        text = self.text(key)
        path = PurePosixPath(text)
        if not text or path.is_absolute() or ".." in path.parts or "\\" in text or ":" in text:
            self.fail(
                f"{self._where}{key} must be a path inside the data folder, such as labels.csv, found {text[:60]!r}"
            )
        return str(path)

    def submission_files(self, kind: Kind = "multi", n_outputs: int = 0) -> SubmissionFiles:
        self.check_keys(SUBMISSION_KEYS)
        if not self._content:
            return SubmissionFiles()
        rows = self.choice("rows", ("images", "clips", "videos"))
        if rows == "images":
            headers = self.table("headers")
            return SubmissionFiles(self.text("header", ""), headers.text("videos", ""))
        columns = self._content.get("columns", [[CLIP, LABEL] if rows == "clips" else [LABEL]])
        ways = columns if isinstance(columns, list | tuple) and columns else [[]]
        ways = [ways] if isinstance(ways[0], str) else ways
        suffix = self.text("suffix", ".txt")
        if not re.fullmatch(r"\.[a-z0-9]{1,8}", suffix):
            self.fail(f"submission.suffix must be like .txt, found {suffix[:60]!r}")
        form = RowFiles(
            "clips" if rows == "clips" else "videos",
            self.text("header", ""),
            tuple(self._way(way, rows) for way in ways),
            suffix,
            self.flag("zip"),
            "name" if self.choice("order", ("sample", "name"), "sample") == "name" else "sample",
        )
        words = {word for way in form.columns for word in way}
        if (CLASS in words and kind != "classes") or (PROBABILITIES in words and (kind, n_outputs) != ("classes", 2)):
            self.fail("submission.columns has class for classes alone, and probabilities for two classes alone")
        if form.form == "clips" and form.is_zipped:
            self.fail('submission.zip is for rows = "videos", a file for each; leave it out')
        if len({len(way) for way in form.columns}) < len(form.columns):
            self.fail("submission.columns has two ways with as many cells; keep one of them")
        return SubmissionFiles(rows=form)

    def _way(self, way: object, rows: str) -> tuple[str, ...]:
        words = _Reader({"columns": way}, self._source, self._where).texts("columns")
        for word in words:
            if word not in COLUMN_WORDS:
                near = did_you_mean(word, COLUMN_WORDS)
                raise UsageError(
                    f"{self._source}: submission.columns cannot have {word[:60]!r}. {near}Choose of: "
                    f"{', '.join(COLUMN_WORDS)}."
                )
        first = CLIP if rows == "clips" else words[0]
        if len({*words}) < len(words) or words[0] != first or not {LABEL, CLASS, PROBABILITIES} & {*words}:
            self.fail(
                f"submission.columns must be different words with what is predicted, {CLIP} first in rows of clips, "
                f"found {', '.join(words)}"
            )
        if (rows == "videos") == (CLIP in words) or (rows == "clips" and FRAME in words):
            self.fail(f"submission.columns of {rows} cannot be {', '.join(words)}")
        return words


def _other_place(key: str, where: str) -> str:
    """Where a key belongs that is in another table of the file; empty if it is nowhere."""
    if where and key in KEYS:
        return f"Move {key} above the first line in brackets."
    places = {"labels": LABEL_KEYS, "submission": SUBMISSION_KEYS}
    place = next((name for name, keys in places.items() if key in keys and f"{name}." != where), "")
    return f"Move {key} below [{place}]." if place else ""


def _in_words(key: str, kind: Kind, outputs: Sequence[str]) -> str:
    """A measure in words, as other tasks have it."""
    if kind == "classes":
        words = {"macro-f1": "macro F1", "weighted-f1": "weighted F1"}.get(key, key)
        return f"{words} over {len(outputs)} classes"
    short = {"ccc": "CCC", "pearson": "Pearson's r", "mse": "-MSE", "macro-f1": "F1"}.get(key, key)
    return f"{short} of {outputs[0]}" if len(outputs) == 1 else f"mean {short} over {len(outputs)} outputs"


def record_of(task: Task) -> dict[str, Any]:
    """The keys of a task, from which `task_of` makes an equal one; as JSON and TOML can hold them."""
    measure = task.measure
    words = {value: key for key, value in MEASURES[task.kind].items()}
    record: dict[str, Any] = {
        "name": task.name,
        "level": next(word for word, level in LEVELS.items() if level == task.level),
        "kind": "multi-label" if task.kind == "binary" else task.kind,
        "measure": words.get((measure.of_output, measure.pooled), f"{measure.of_output}-{measure.pooled}"),
        "score": measure.name,
        "short": measure.short,
        "loss": task.loss,
        "window": task.window,
        "labels": _labels_record(task),
        "submission": _submission_record(task.submission),
    }
    if measure.also:
        record["also"] = list(measure.also)
    if task.parts:
        return record | {"parts": [record_of(part) for part in task.parts]}
    if task.kind == "regression":
        record["range"] = [task.low, task.high]
    return record | {"outputs": list(task.outputs), "columns": list(task.columns), "invalid": task.invalid}


def _labels_record(task: Task) -> dict[str, Any]:
    record: dict[str, Any] = {}
    if task.labels is not None:
        record |= {"folders": list(task.labels.folders), "header": task.labels.header}
    if (table := task.table) is not None:
        record |= {split or "table": name for split, name in table.files}
        record |= {CLIP: table.clip, "target": list(table.targets), "first": table.first}
        cells = {FRAME: table.frame, "split": table.split, "person": table.person}
        record |= {key: value for key, value in cells.items() if value}
    return record


def _submission_record(files: SubmissionFiles) -> dict[str, Any]:
    if files.rows is None:
        headers = {"headers": {"videos": files.videos}} if files.videos else {}
        return {"rows": "images", "header": files.images, **headers} if files.images or headers else {}
    rows = files.rows
    return {
        "rows": rows.form,
        "header": rows.header,
        "columns": [list(way) for way in rows.columns],
        "order": rows.order,
        "suffix": rows.suffix,
        "zip": rows.is_zipped,
    }
