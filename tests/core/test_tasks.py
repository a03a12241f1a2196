"""Tasks: contradictions are refused, and one of another distribution is known, trained, scored and handed in."""

import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from scipy.stats import pearsonr

from abaw.core import plugins
from abaw.core.tasks import AU, EXPR, MTL, ORDER, TASKS, VA, Measure
from abaw.evaluate.predictions import load_predictions
from abaw.evaluate.submission.parsing import wrong_with
from abaw.predict.output_rows import OutputRow, output_values
from abaw.predict.overlay import Overlay
from abaw.predict.timeline import PersonSeries, draw_timeline
from abaw.store import FeatureStore
from abaw.tests.support.plugins import write_distribution

MODULE = """
from abaw.core.tasks import LabelFiles, Measure, SubmissionFiles, Task

INTENSITY = Task(
    name="intensity",
    kind="regression",
    outputs=("joy", "anger"),
    columns=("joy", "anger"),
    invalid=-1,
    low=0,
    high=1,
    loss="ccc",
    measure=Measure("mean Pearson's r of joy and anger", "r", "pearson"),
    labels=LabelFiles(("intensity_challenge",), "joy,anger"),
    submission=SubmissionFiles(images="image,joy,anger", videos="joy,anger"),
)
"""
ENTRIES = {"intensity": "intensity_task:INTENSITY"}
N_FRAMES = 60


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on `sys.path`; what was loaded before and from it is forgotten."""

    def forget() -> None:
        TASKS._loaded.cache_clear()
        plugins._loaded.clear()
        plugins._named.clear()
        sys.modules.pop("intensity_task", None)

    monkeypatch.syspath_prepend(tmp_path / "plugins")
    forget()
    yield tmp_path / "plugins"
    forget()


@pytest.fixture
def data(tmp_path: Path, make_data: Callable[..., Path], make_labels: Callable[..., Path]) -> Path:
    """Crops of four videos and label files, one row of each not annotated."""
    root = make_data(dict.fromkeys("abcd", N_FRAMES))
    rng = np.random.default_rng(0)
    for video in "abcd":
        rows = [f"{joy:.3f},{anger:.3f}" for joy, anger in rng.uniform(size=(N_FRAMES, 2))]
        rows[7] = "-1,-1"
        split = "Train_Set" if video in "abc" else "Validation_Set"
        make_labels(root, f"Intensity Challenge/{split}", video, "joy,anger", *rows)
    return root


def succeed(result: Result) -> str:
    assert result.exit_code == 0, result.output
    return result.stdout


def test_task_of_another_distribution_is_trained_scored_and_handed_in(
    folder: Path, data: Path, tmp_path: Path, run_cli: Callable[..., Result], one_thread: None
) -> None:
    write_distribution(folder, "abaw-intensity", "0.3", {"abaw.tasks": ENTRIES}, {"intensity_task": MODULE})
    store, places = tmp_path / "s.zarr", ("--store", tmp_path / "s.zarr", "--runs", tmp_path / "runs")
    assert "intensity" in succeed(run_cli("list", "tasks"))
    succeed(run_cli("extract", "--backbone", "hog", "--data", data, "--store", store))
    assert FeatureStore.open(store).labels("intensity", "val")["d"].rows.shape == (N_FRAMES, 2)
    succeed(run_cli("train", "--task", "intensity", "--head", "linear", "--set", "window=30", "--run", "r", *places))

    official = json.loads(succeed(run_cli("eval", "r", "--json", "--data", data, *places)))["official"]
    predictions = load_predictions(tmp_path / "runs" / "r" / "predictions-val.h5")["d"]
    kept = np.arange(N_FRAMES) != 7
    for column, name in enumerate(("joy", "anger")):
        wanted = pearsonr(predictions.outputs[kept, column].clip(0, 1), predictions.labels[kept, column])[0]
        assert official["parts"][name] == pytest.approx(wanted, abs=1e-6)
    assert official["score"] == pytest.approx(np.mean(list(official["parts"].values())))
    succeed(run_cli("report", "r", "--runs", tmp_path / "runs", "--out", tmp_path / "r.html", "--data", data))
    assert "intensity: r with 95 % interval" in (tmp_path / "r.html").read_text()

    images = [f"d/{number:05}.jpg" for number in range(1, N_FRAMES + 1)]
    (tmp_path / "sample.txt").write_text("\n".join(["image,joy,anger", *(f"{image}," for image in images)]) + "\n")
    (tmp_path / "videos.txt").write_text("d\n")
    for sample, out in (("sample.txt", "predictions.txt"), ("videos.txt", "predictions")):
        answer = ("--sample", tmp_path / sample, "--out", tmp_path / out)
        succeed(run_cli("submit", "r", *answer, "--data", data, *places))
        succeed(run_cli("check-submission", tmp_path / out, "--sample", tmp_path / sample))
        scored = run_cli("eval", "--predictions", tmp_path / out, "--json", "--store", store)
        assert json.loads(succeed(scored))["official"]["score"] == pytest.approx(official["score"], abs=1e-4)
    lines = (tmp_path / "predictions.txt").read_text().splitlines()
    (tmp_path / "predictions.txt").write_text("\n".join([*lines[:2], f"{images[1]},-0.25,0.5", *lines[3:]]) + "\n")
    wrong = run_cli("check-submission", tmp_path / "predictions.txt", "--sample", tmp_path / "sample.txt")
    assert "line 3: joy should be a number from 0 to 1, found '-0.25'" in wrong.stderr


@pytest.mark.parametrize(
    ("low", "high", "invalid"),
    [(0, 1, "-0.5"), (0, 0.5, "0.7"), (0.5, 2, "0.25"), (-0.5, 1, "-0.75"), (-1, 0.5, "0.75"), (-50, 200, "200.5")],
)
def test_values_outside_of_any_range_are_found(low: float, high: float, invalid: str) -> None:
    task = replace(VA, low=low, high=high)
    assert wrong_with(f"{low},{high}", task) == ""
    assert wrong_with(f"{invalid},{low}", task) == (
        f"valence should be a number from {low:g} to {high:g}, found '{invalid}'"
    )


def test_a_process_finds_the_task_by_itself(folder: Path, process_env: dict[str, str]) -> None:
    write_distribution(folder, "abaw-intensity", "0.3", {"abaw.tasks": ENTRIES}, {"intensity_task": MODULE})
    path = f"{folder}:{process_env.get('PYTHONPATH', '')}"
    run = subprocess.run(
        [sys.executable, "-c", "from abaw.core.tasks import TASKS; print(*TASKS)"],
        env={**process_env, "PYTHONPATH": path}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.split() == [*ORDER, "intensity"]


def test_taken_names_and_names_that_differ_are_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = {"va": "intensity_task:INTENSITY", "moods": "intensity_task:INTENSITY"}
    write_distribution(folder, "abaw-intensity", "0.3", {"abaw.tasks": entries}, {"intensity_task": MODULE})
    with caplog.at_level(logging.WARNING):
        assert list(TASKS) == [*ORDER]
    assert TASKS["va"] is VA
    assert "Plug-in va (abaw.tasks) of abaw-intensity 0.3 is left out: ValueError: the name is taken by abaw" in (
        caplog.text
    )
    assert "Plug-in moods (abaw.tasks) of abaw-intensity 0.3 is left out: ValueError: its task is called intensity" in (
        caplog.text
    )


def test_a_video_of_other_real_numbers_can_be_drawn() -> None:
    """In lines of their own from 0 to 1; the dial is for valence and arousal alone."""
    task = replace(VA, name="intensity", outputs=("joy", "anger"), columns=("joy", "anger"), low=0)
    outputs = output_values(task, np.array([0.25, 0.75], dtype=np.float32))
    row = OutputRow(1, 0.0, "a", outputs, (10.0, 10.0, 40.0, 40.0))
    assert Overlay(task, ["a"]).draw(np.zeros((240, 320, 3), np.uint8), {"a": row}).shape[1:] == (320, 3)
    seen = PersonSeries([0.0, 0.1], [np.array([0.25, 0.75], np.float32)] * 2)
    (axis,) = draw_timeline(task, {"a": seen}, "title", 0.0, 0.2).axes
    assert axis.get_ylim() == pytest.approx((-0.05, 1.05))
    lines = [line for line in axis.lines if len(line.get_xdata()) == len(seen.times_s)]
    assert [line.get_ydata()[0] for line in lines if line.get_linewidth() > 1] == [0.25, 0.75]


@pytest.mark.parametrize(
    ("task", "changes", "words"),
    [
        (VA, {"measure": Measure("m", "m", "f1")}, "of kind regression cannot be measured by f1"),
        (AU, {"measure": Measure("m", "m", "pearson")}, "of kind binary cannot be measured by pearson"),
        (MTL, {"measure": Measure("m", "m", "ccc")}, "of kind multi cannot be measured by ccc"),
        (MTL, {"parts": ()}, "of kind multi has 0 parts"),
        (VA, {"parts": (EXPR,)}, "of kind regression has 1 parts"),
        (MTL, {"parts": (VA, AU, EXPR)}, "others than its parts"),
        (VA, {"outputs": ("joy", "joy")}, "outputs of equal names"),
        (VA, {"outputs": ("joy", "score")}, "called score"),
        (VA, {"columns": ("joy",)}, "has 1 columns, not 2"),
        (EXPR, {"columns": EXPR.outputs}, "has 8 columns, not 1"),
        (VA, {"low": 1}, "has no range of labels from 1 to 1"),
        (VA, {"high": float("inf")}, "has no range of labels from -1 to inf"),
        (EXPR, {"high": 8}, "has labels from 0 to 8, not one for each class"),
        (EXPR, {"outputs": tuple(map(str, range(129))), "high": 128}, "has 129 outputs; 128 are possible"),
    ],
)
def test_contradictions_are_refused(task, changes, words) -> None:
    with pytest.raises(ValueError, match=words):
        replace(task, **changes)
