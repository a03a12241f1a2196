"""A task of images of one's own, from a folder and a table to scores and a file to hand in."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from abaw.core.tasks import TASKS

TASK = """
name = "tone"
level = "image"
kind = "classes"
outputs = ["dark", "light"]
measure = "macro-f1"

[labels]
table = "labels.csv"
clip = "file"
person = "who"
target = ["tone"]

[submission]
rows = "images"
header = "image,tone"
"""


@pytest.fixture(autouse=True)
def forget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a test adds to the tasks is forgotten."""
    monkeypatch.setattr(TASKS, "_added", {})
    monkeypatch.setattr(TASKS, "_files", {})
    monkeypatch.chdir(tmp_path)


def make_images(root: Path) -> None:
    """Twenty images of ten people in one folder, half of each light at the top, and two to predict."""
    rng, rows = np.random.default_rng(0), ["file,split,who,tone"]
    for folder in ("photos", "test"):
        (root / folder).mkdir(parents=True)
    for number in range(20):
        name, is_light = f"photos/{number}.png", number % 2
        save(root / name, rng, is_light)
        rows.append(f"{name},{'train' if number < 12 else 'val'},p{number // 2},{['dark', 'light'][is_light]}")
    (root / "labels.csv").write_text("\n".join(rows) + "\n")
    for number in range(2):
        save(root / "test" / f"new{number}.png", rng, number)


def save(path: Path, rng: np.random.Generator, is_light: int) -> None:
    pixels = rng.integers(0, 20, (32, 32, 3), dtype=np.uint8)
    pixels[: 16 if is_light else 0] += 200
    Image.fromarray(pixels).save(path)


def forget_tasks() -> None:
    """As a new process: no task file was named in it."""
    TASKS._added.clear()
    TASKS._files.clear()


def test_images_and_a_table_go_to_a_scored_run_and_a_file_to_hand_in(tmp_path: Path, run_cli: Callable) -> None:
    make_images(tmp_path / "data")
    (tmp_path / "tone.toml").write_text(TASK)
    (tmp_path / "sample.csv").write_text("image,tone\nnew1.png,\nnew0.png,\n")

    def call(*words: str) -> str:
        done = run_cli(*words)
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    assert "12 videos" not in (said := call("doctor", "--task", "tone.toml", "--fps", "24.5")) and "10 people" in said
    assert "Next: abaw extract --task tone.toml --backbone vit-mean --fps 24.5" in said
    call("extract", "--task", "tone.toml", "--backbone", "hog", "--device", "cpu")
    train = (
        "train",
        "--task",
        "tone.toml",
        "--feature",
        "hog",
        "--head",
        "linear",
        "--device",
        "cpu",
        "--set",
        "epochs=4",
    )
    call(*train, "--run", "a", "--set", "lr=0.01")
    assert "fold" in call(*train, "--run", "folded", "--fold", "2/3"), "people are dealt"
    assert "│ people │ │ 4 │" in call("eval", "a", "--device", "cpu")
    scores = json.loads((tmp_path / "runs" / "a" / "scores-val.json").read_text())
    assert scores["official"]["score"] == 1 and scores["official"]["n_frames"] == 8
    call("report", "a", "--out", "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "95 % interval over people" in page and scores["people"] == 4
    forget_tasks()  # the run has its task, and the data folder is read by that
    (tmp_path / "sample.csv").rename(tmp_path / "a sample.csv")
    said = call("submit", "a", "--sample", "a sample.csv", "--out", "p.txt", "--device", "cpu")
    assert "p.txt: 2 rows, by a." in said
    assert (tmp_path / "p.txt").read_text() == "image,tone\nnew1.png,1\nnew0.png,0\n"
    forget_tasks()
    following = shlex.split(said.partition("Next: abaw ")[2])
    assert following == ["check-submission", "p.txt", "--sample", "a sample.csv", "--task", "runs/a"]
    assert "no problems" in call(*following)
    assert "no problems" in call("check-submission", "p.txt", "--task", "tone.toml", "--sample", "a sample.csv")
    (tmp_path / "runs" / "a").rename(tmp_path / "old")
    assert "Next: abaw report old" in call("eval", "./old", "--device", "cpu")
    wrong = run_cli("check-submission", "p.txt", "--task", "runs/b", "--sample", "a sample.csv")
    assert wrong.exit_code == 2 and "Unknown task 'runs/b'." in wrong.output


def test_folds_of_images_need_people(tmp_path: Path, run_cli: Callable) -> None:
    make_images(tmp_path / "data")
    (tmp_path / "tone.toml").write_text(TASK.replace('person = "who"\n', ""))
    assert run_cli("extract", "--task", "tone.toml", "--backbone", "hog", "--device", "cpu").exit_code == 0
    done = run_cli("train", "--task", "tone.toml", "--feature", "hog", "--fold", "1/3", "--device", "cpu")
    assert done.exit_code == 2
    assert "Folds of images need to know who is in each, and the labels of tone do not say so for all." in done.output
