"""Task files: every task can be written as one and read back, and what is wrong in a file is named with what is near."""

import json
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from abaw.core.errors import UsageError
from abaw.core.task_files import read_task_file, record_of, task_of
from abaw.core.tasks import AU, EXPR, ORDER, TASKS, VA, Measure, Task, get_task, record_for, recorded_task
from abaw.tests.support.paths import CHECKOUT
from abaw.tests.support.stores import new_store, put_feature

SMILE = """
name = "smile"
level = "clip"
kind = "regression"
outputs = ["joy", "interest"]
range = [0, 1]
measure = "pearson"
also = ["mse"]

[labels]
table = "labels/all.csv"
clip = "file"

[submission]
rows = "clips"
header = "file,joy,interest"
"""


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test adds is forgotten."""
    monkeypatch.setattr(TASKS, "_added", {})
    monkeypatch.setattr(TASKS, "_files", {})


def file_of(folder: Path, text: str = SMILE) -> Path:
    path = folder / "smile.toml"
    path.write_text(text)
    return path


def refusal(folder: Path, old: str, new: str) -> str:
    assert old in SMILE
    with pytest.raises(UsageError) as error:
        read_task_file(file_of(folder, SMILE.replace(old, new)))
    return str(error.value).removeprefix(f"{folder / 'smile.toml'}: ")


@pytest.mark.parametrize("name", ORDER)
def test_every_built_in_task_can_be_written_as_a_file(name: str) -> None:
    record = json.loads(json.dumps(record_of(TASKS[name])))
    found = task_of(record, "it")
    assert found == TASKS[name] and repr(found) == repr(TASKS[name])
    assert record_for(TASKS[name]) is None and recorded_task(name, None) == TASKS[name]


@pytest.mark.parametrize(
    "task",
    [
        replace(VA, name="pooled", measure=Measure("CCC of all", "CCC", "ccc", "all")),
        replace(EXPR, name="recall", measure=Measure("mean recall", "recall", "accuracy")),
        replace(AU, name="micro", measure=Measure("micro F1", "F1", "f1", "all", ("ap", "accuracy"))),
    ],
    ids=lambda task: task.name,
)
def test_tasks_of_plug_ins_are_recorded_whole(task: Task) -> None:
    record = record_for(task)
    assert record is not None and recorded_task(task.name, json.loads(json.dumps(record))) == task


def test_a_file_is_known_by_its_name_and_recorded_with_its_outputs(tmp_path: Path) -> None:
    task = get_task(str(file_of(tmp_path)))
    assert (task.kind, task.level, task.low, task.high, task.window) == ("regression", "video", 0, 1, 75)
    assert task.measure == Measure("mean Pearson's r over 2 outputs", "r", "pearson", "mean", ("mse",))
    assert task.loss == "mse" and task.table is not None and task.table.targets == ("joy", "interest")
    assert TASKS["smile"] == task and get_task("smile:joy") == task.only(["joy"])
    record = record_for(task.only(["joy"]))
    assert recorded_task("smile:joy", record) == task.only(["joy"])
    assert record == record_for(task)
    with pytest.raises(UsageError, match=r"^The record of task laugh is that of smile. Train again.$"):
        recorded_task("laugh", record)


def test_mistakes_are_named_with_what_is_near(tmp_path: Path) -> None:
    assert refusal(tmp_path, "level =", "levl =").startswith("unknown key 'levl'. Did you mean level")
    assert refusal(tmp_path, '"pearson"', '"pearsn"') == (
        "measure cannot be 'pearsn'. Did you mean pearson? Choose one of: ccc, pearson, mse."
    )
    assert refusal(tmp_path, '["mse"]', '["ap"]') == (
        "also cannot have 'ap' for regression of 2 outputs. Choose of: ccc, pearson, mse."
    )
    assert refusal(tmp_path, '"regression"', '"regresion"') == (
        "kind cannot be 'regresion'. Did you mean regression? Choose one of: regression, classes, binary, multi-label."
    )
    assert refusal(tmp_path, '"pearson"', '"macro-f1"').startswith(
        "measure macro-f1 is of classes, binary, multi-label; one of regression is ccc"
    )
    assert refusal(tmp_path, '"clip"', '"video"').startswith("level cannot be 'video'. Did you mean clip?")
    assert refusal(tmp_path, "range = [0, 1]", "").startswith("range is missing: the lowest and the highest label")
    assert refusal(tmp_path, "[submission]", 'loss = "mse"\n[submission]').endswith(
        "Move loss above the first line in brackets."
    )
    assert refusal(tmp_path, "level =", 'table = "a.csv"\nlevel =') == "unknown key 'table'. Move table below [labels]."
    assert refusal(tmp_path, 'clip = "file"', 'clips = "file"').startswith(
        "unknown key 'labels.clips'. Did you mean clip?"
    )
    assert refusal(tmp_path, "range = [0, 1]", "range = [1]") == (
        "range must be the lowest and the highest label, such as [0, 1], found '[1]'. Correct it."
    )
    assert (
        refusal(tmp_path, "range = [0, 1]", "range = [0, true]") == "range must be a number, found 'True'. Correct it."
    )
    assert refusal(tmp_path, "range = [0, 1]", "range = [1, 0]").startswith(
        "task smile has no range of labels from 1 to 0"
    )
    assert refusal(tmp_path, 'name = "smile"', 'name = "../smile"').startswith(
        "name must be up to 40 lower-case letters"
    )
    assert refusal(tmp_path, 'outputs = ["joy", "interest"]', "").startswith(
        "outputs must be a list of names, found 'None'"
    )
    assert refusal(tmp_path, '"joy", "interest"]', '"joy", "joy"]').startswith("task smile has outputs of equal names")
    assert refusal(tmp_path, 'kind = "regression"', 'kind = "binary"').startswith("kind binary has one output, found 2")
    assert refusal(tmp_path, 'rows = "clips"', 'rows = "clips"\ncolumns = ["clip", "lable"]') == (
        "submission.columns cannot have 'lable'. Did you mean label? Choose of: clip, frame, label, class, probabilities."
    )
    assert refusal(tmp_path, 'rows = "clips"', 'rows = "clips"\ncolumns = ["clip", "class"]').startswith(
        "submission.columns has class for classes alone"
    )


MOODS = SMILE.replace('"regression"', '"classes"').replace("range = [0, 1]", "").replace('"pearson"', '"macro-f1"')


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SMILE.replace("[0, 1]", "[-1, 1]"), "such as invalid = -2. Correct it."),
        (MOODS.replace('["mse"]', '["accuracy"]\ninvalid = 0'), "invalid cannot be 0, as labels are kept as 0 to 1"),
        (SMILE.replace('"clip"\nkind', '"frame"\nkind'), "rows cannot be clips where level is frame; choose images or"),
        (SMILE.replace('"clip"\nkind', '"image"\nkind').replace("also", "window = 4\nalso"), "window cannot be 4"),
        (
            SMILE.replace('"joy"', '"joy/fun"'),
            "outputs of regression name files, so they cannot have a slash: 'joy/fun'",
        ),
    ],
)
def test_keys_that_do_not_fit_together_are_refused_in_files_and_not_in_records(
    text: str, words: str, tmp_path: Path
) -> None:
    """Runs of older versions may have been trained with such a task, and have to be read."""
    path = file_of(tmp_path, text)
    with pytest.raises(UsageError) as error:
        read_task_file(path)
    assert words in str(error.value)
    task = task_of(tomllib.loads(text), "it")
    assert recorded_task(task.name, record_of(task)) == task
    if "[-1, 1]" in text:
        assert read_task_file(file_of(tmp_path, text.replace("also", "invalid = -2\nalso"))).invalid == -2


@pytest.mark.parametrize("table", ["../labels.csv", "/etc/passwd", "a/../../b.csv", "C:labels.csv", "a\\\\b.csv", ""])
def test_tables_cannot_lie_outside_the_data_folder(tmp_path: Path, table: str) -> None:
    assert refusal(tmp_path, "labels/all.csv", table).startswith("labels.table must be a path inside the data folder")


def test_files_that_are_no_task_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^No task file .*none.toml. Name another, or a task of `abaw list tasks`.$"):
        get_task(str(tmp_path / "none.toml"))
    with pytest.raises(UsageError, match=r"is not valid TOML"):
        get_task(str(file_of(tmp_path, "name = [")))
    with pytest.raises(UsageError, match=r"is not valid TOML \(it has more than 65,536 bytes\)"):
        get_task(str(file_of(tmp_path, "#" * 70_000)))
    with pytest.raises(UsageError, match=r"the name va is that of another task, see `abaw list tasks`. Choose one.$"):
        get_task(str(file_of(tmp_path, SMILE.replace('"smile"', '"va"'))))
    with pytest.raises(UsageError, match=r"Did you mean smile\?|or name a .toml file of your own.$"):
        get_task("smil")


def test_files_of_the_built_in_tasks_are_those_of_the_folder() -> None:
    assert {path.stem for path in (CHECKOUT / "tasks").glob("*.toml")} < {*ORDER}


def test_a_run_of_a_task_file_needs_the_file_no_more(tmp_path: Path, run_cli: Callable[..., Result]) -> None:
    """Trained with the file; evaluated, listed, joined and reported after it is gone."""
    rng, store = np.random.default_rng(0), new_store(tmp_path / "store.zarr", {"f": (2,)})
    for number in range(12):
        values = rng.uniform(size=(4, 2)).astype(np.float32)
        put_feature(store, "f", f"v{number}", values)
        store.write_labels("smile", f"v{number}", "train" if number < 6 else "val", values.mean(axis=0, keepdims=True))
    path, places = (
        file_of(tmp_path),
        ("--store", tmp_path / "store.zarr", "--runs", tmp_path / "runs", "--device", "cpu"),
    )
    for seed in ("0", "1"):
        words = (
            "train",
            "--task",
            path,
            "--head",
            "ridge",
            "--seed",
            seed,
            "--run",
            f"r{seed}",
            "--set",
            "window=4",
            *places,
        )
        found = run_cli(*words)
        assert found.exit_code == 0, found.output
    path.unlink()
    TASKS._added.clear()
    for run in ("r0", "r1"):
        found = run_cli("eval", run, "--json", "--data", tmp_path / "none", *places)
        assert found.exit_code == 0, found.output
        content = json.loads(found.stdout)
        assert (content["task"], set(content["official"]["also"])) == ("smile", {"mse"})
        assert (tmp_path / "runs" / run / "answers-val.png").is_file()
    runs = ("--runs", tmp_path / "runs")
    for words in (
        *(("ensemble", "r0", "r1", *runs), ("compare", "r0", "r1", *runs), ("list", "runs", *runs)),
        ("report", "r0", "smile-ensemble-1", *runs, "--out", tmp_path / "report.html", "--data", tmp_path / "none"),
    ):
        found = run_cli(*words)
        assert found.exit_code == 0, found.output
    assert "Largest errors" in (tmp_path / "report.html").read_text()
