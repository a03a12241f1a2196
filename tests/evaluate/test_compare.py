"""`abaw compare`: the table, the JSON object, and what cannot be compared, on runs with handmade predictions."""

import json
from pathlib import Path

import numpy as np
import pytest

from abaw.core.tasks import TASKS
from abaw.evaluate.compare import compare
from abaw.evaluate.predictions import VideoPrediction, load_predictions, save_predictions
from abaw.evaluate.results import Results
from abaw.evaluate.scores.bootstrap import difference, interval, measures
from abaw.train.config import make_config
from abaw.train.runs import create_run

SEEDS = {"good": (0.1, 1), "bad": (0.9, 2), "like-good": (0.1, 3)}  # noise of the outputs, and its seed


def make_predictions(task_name: str, noise: float, seed: int, n_videos: int = 30) -> dict[str, VideoPrediction]:
    task, rng = TASKS[task_name], np.random.default_rng(seed)
    found = {}
    for number in range(n_videos):
        truth = np.random.default_rng([7, number])
        labels, outputs = [], []
        for part, _, _ in task.each():
            if part.kind == "regression":
                rows = truth.uniform(-1, 1, (20, 2))
                answers = rows
            else:
                rows = truth.integers(0, int(part.high) + 1, (20, len(part.columns)))
                answers = rows == np.arange(len(part.outputs)) if part.kind == "classes" else rows - 0.5
            labels.append(rows)
            outputs.append(answers + noise * rng.normal(size=(20, len(part.outputs))))
        arrays = (np.concatenate(parts, axis=1).astype(np.float32) for parts in (outputs, labels))
        found[f"v{number:02}"] = VideoPrediction(*arrays, np.ones(20, bool), 25.0)
    return found


def add_run(runs: Path, name: str, task: str, predictions: dict[str, VideoPrediction]) -> None:
    config = make_config({"task": task, "features": ("f",)})
    run = create_run(runs, config, {"f": {"fingerprint": "c" * 64, "shape": [2]}}, name)
    (run.folder / "best.safetensors").write_bytes(b"weights of " + name.encode())
    save_predictions(run.folder / "predictions-val.h5", predictions, TASKS[task], run.digest())


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    for task in ("va", "mtl"):
        for name, (noise, seed) in SEEDS.items():
            add_run(tmp_path / "runs", f"{task}-{name}", task, make_predictions(task, noise, seed))
    return tmp_path / "runs"


def cells_of(output: str) -> dict[str, list[str]]:
    lines = output.splitlines()
    return {row[0]: row[1:] for line in lines if len(row := [c.strip() for c in line.strip("│").split("│")]) > 2}


def test_table_shows_scores_intervals_difference_and_p(run_cli, runs: Path) -> None:
    result = run_cli("compare", "mtl-bad", "mtl-good", "--runs", runs)
    assert result.exit_code == 0, result.output
    task, cells = TASKS["mtl"], cells_of(result.stdout)
    assert list(cells)[-26:] == [
        *(*TASKS["va"].outputs, "va", *TASKS["expr"].outputs, "expr", *TASKS["au"].outputs, "au", "score")
    ]
    a, b = (load_predictions(runs / name / "predictions-val.h5") for name in ("mtl-bad", "mtl-good"))
    gains = difference(task, a, b)
    for name in ("arousal", "Fear", "AU26", "au", "score"):
        for cell, one in zip(cells[name][1:3], (a, b), strict=True):
            low, high = interval(task, one)[name]
            assert cell == f"{measures(task, one)[name]:.3f} [{low:.3f}, {high:.3f}]"
        gain = gains[name]
        assert cells[name][3:] == [f"{gain.estimate:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]", f"{gain.p_value:.4f}"]
    assert float(cells["score"][4]) < 0.01
    assert "The difference is mtl-good less mtl-bad" in result.stdout


def test_json_has_the_same_numbers(run_cli, runs: Path) -> None:
    printed = json.loads(run_cli("compare", "va-bad", "va-good", "--runs", runs, "--json").stdout)
    assert (printed["task"], printed["split"], printed["runs"]) == ("va", "val", ["va-bad", "va-good"])
    assert list(printed["scores"]) == ["score", "valence", "arousal"]
    found = printed["scores"]["score"]
    assert found["difference"] == pytest.approx(found["values"][1] - found["values"][0])
    assert found["interval"][0] < found["difference"] < found["interval"][1]
    assert found["p_value"] < 0.01


def test_a_run_with_itself_and_with_its_like(run_cli, runs: Path) -> None:
    cells = cells_of(run_cli("compare", "va-good", "va-good", "--runs", runs).stdout)
    assert cells["score"][3:] == ["+0.000 [+0.000, +0.000]", "1.0000"]
    cells = cells_of(run_cli("compare", "va-good", "va-like-good", "--runs", runs).stdout)
    assert float(cells["score"][4]) > 0.05


def test_ensemble_is_compared_like_a_run(run_cli, runs: Path) -> None:
    """Two runs with noise of their own: their mean is better than each."""
    assert run_cli("ensemble", "va-good", "va-like-good", "--run", "both", "--runs", runs).exit_code == 0
    cells = cells_of(run_cli("compare", "va-good", "both", "--runs", runs).stdout)
    assert cells["score"][3].startswith("+")
    assert float(cells["score"][4]) < 0.01


def test_few_videos_are_reported(run_cli, tmp_path: Path) -> None:
    none = "There are no intervals and no p: they need 4 labelled videos, found {}."
    rough = "With {} labelled videos the intervals are rough and too narrow."
    for n, said in ((1, none), (2, none), (3, none), (4, rough), (19, rough), (20, "")):
        runs = tmp_path / str(n)
        add_run(runs, "va-1", "va", make_predictions("va", 0.2, 0, n))
        result = run_cli("compare", "va-1", "va-1", "--runs", runs)
        assert result.exit_code == 0, result.output
        assert [words for words in (none, rough) if words.format(n) in result.stderr] == ([said] if said else [])
        assert "depends on" not in result.stderr


def test_two_or_three_videos_have_neither_interval_nor_p(run_cli, tmp_path: Path) -> None:
    """However different the runs are: p of so few could not be small where an interval leaves out 0."""
    for n in (2, 3):
        runs = tmp_path / str(n)
        for name in ("bad", "good"):
            add_run(runs, name, "va", make_predictions("va", *SEEDS[name], n))
        cells = cells_of(run_cli("compare", "bad", "good", "--runs", runs).stdout)
        assert [" [" in cell for cell in cells["score"]] == [False] * 5
        assert cells["score"][3].startswith("+0.") and cells["score"][4] == "-"
        printed = json.loads(run_cli("compare", "bad", "good", "--runs", runs, "--json").stdout)["scores"]["score"]
        assert (printed["interval"], printed["p_value"]) == ([None, None], None)
        assert printed["intervals"] == [[None, None]] * 2


def test_row_that_hangs_on_one_video_has_no_p(run_cli, tmp_path: Path) -> None:
    for name in ("bad", "good"):
        found = make_predictions("au", *SEEDS[name], 8)
        for video, one in found.items():
            one.labels[:, 0] = video == "v00"
            one.outputs[:, 0] = 1 if (video, name) == ("v00", "good") else -1
        add_run(tmp_path, name, "au", found)
    result = run_cli("compare", "bad", "good", "--runs", tmp_path)
    cells = cells_of(result.stdout)
    assert cells["AU1"][3:] == ["+1.000", "-"]
    assert cells["AU2"][4] != "-"
    assert "A row without p depends on so few videos that drawing them again cannot tell." in result.stderr


def test_what_cannot_be_compared_is_named(run_cli, runs: Path) -> None:
    def refused(*words: str) -> str:
        result = run_cli("compare", *words, "--runs", runs)
        assert result.exit_code == 2
        return result.output

    assert "va-good is of task va, mtl-good of mtl. Compare runs of one task." in refused("va-good", "mtl-good")
    assert "va-good has no predictions-train.h5. Create it with `abaw eval va-good --split train`." in refused(
        "va-good", "va-bad", "--split", "train"
    )
    assert run_cli("ensemble", "va-good", "va-bad", "--run", "together", "--runs", runs).exit_code == 0
    known = "mtl-bad, mtl-good, mtl-like-good, together, va-bad, va-good, va-like-good"
    assert f"No run 'none' in {runs}; available: {known}." in refused("va-good", "none")
    add_run(runs, "va-few", "va", make_predictions("va", 0.2, 0, 24))
    assert "Only va-good has predictions for v24, v25, v26 and 3 more" in refused("va-few", "va-good")
    other = make_predictions("va", 0.2, 0)
    other["v03"].labels[0, 0] = 0.5
    add_run(runs, "va-other", "va", other)
    assert "va-good and va-other have different labels for v03" in refused("va-good", "va-other")


def test_compare_takes_results_from_anywhere(tmp_path: Path) -> None:
    task = TASKS["va"]
    first, second = (Results(name, tmp_path, task, make_predictions("va", *SEEDS[name])) for name in ("bad", "good"))
    found = compare(first, second)["valence"]
    assert found.values == (measures(task, first.predictions)["valence"], measures(task, second.predictions)["valence"])
    assert found.difference.estimate == pytest.approx(found.values[1] - found.values[0])
