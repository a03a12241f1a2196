"""Annotation files of the multi-task challenge: found, read by frame number, checked, and taken through the commands."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from abaw.core.tasks import TASKS
from abaw.datasets.dataset import Labels
from abaw.datasets.layouts import open_dataset
from abaw.pipeline import doctor
from abaw.store import FeatureStore

HEADER = "image,valence,arousal,expression,aus"
AUS = "0,1,0,0,0,0,1,0,0,0,1,0"
NOTHING = [-5, -5, -1] + [-1] * 12
TRAIN, VAL = "training_set_annotations.txt", "validation_set_annotations.txt"


def row(image: str, valence: float = 0.5, arousal: float = -0.25, expression: int = 3, units: str = AUS) -> str:
    return f"{image},{valence},{arousal},{expression},{units}"


def write(file: Path, *lines: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join((HEADER, *lines)) + "\n")
    return file


def labels_of(root: Path) -> dict[str, Labels]:
    return {label.video: label for label in open_dataset(root).labels if label.task == "mtl"}


def errors_of(root: Path) -> list[str]:
    return [remark.sentence for remark in open_dataset(root).remarks if remark.is_error]


@pytest.fixture
def root(make_data: Callable[..., Path]) -> Path:
    """Two videos, `a` with frames 1 to 6 and `b_left` with 2 and 4, no labels."""
    return make_data({"a": 6, "b_left": [2, 4]})


@pytest.mark.parametrize(
    "folder",
    ["", "labels", "MTL_Challenge", "Multi_Task_Learning_Challenge", "labels/MTL_Challenge",
     "labels/Multi_Task_Learning_Challenge"],
)  # fmt: skip
@pytest.mark.parametrize("names", [(TRAIN, VAL), ("train_set.txt", "validation_set.txt")])
def test_both_splits_under_each_name_in_each_folder(root, folder, names):
    write(root / folder / names[0], row("a/00001.jpg"))
    write(root / folder / names[1], row("b_left/00002.jpg"))
    assert {name: label.split for name, label in labels_of(root).items()} == {"a": "train", "b_left": "val"}


def test_a_row_belongs_to_the_frame_of_its_number_whatever_its_place(root):
    write(
        root / TRAIN,
        row("b_left/00004.jpg", expression=7),
        row("a/00005.jpg", valence=-1, arousal=-5),
        row("b_left/2.jpg", expression=-1, units=",".join(["-1"] * 12)),
        row("a/00002.JPG", arousal=1, units="1,0,0,0,0,0,0,0,0,0,0,-1"),
    )
    labels = labels_of(root)
    units = [0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0]
    a, b = labels["a"].read(), labels["b_left"].read()
    assert a.dtype == b.dtype == np.float32
    assert a.tolist() == [
        NOTHING, [0.5, 1, 3, 1, *[0] * 10, -1], NOTHING, NOTHING, [-1, -5, 3, *units]
    ]  # fmt: skip
    assert b.tolist() == [NOTHING, [0.5, -0.25, -1, *[-1] * 12], NOTHING, [0.5, -0.25, 7, *units]]
    assert TASKS["mtl"].valid(a).sum(1).tolist() == [0, 14, 0, 0, 14]


def test_ten_thousand_rows_in_any_order_read_as_they_were_written(root):
    rng = np.random.default_rng(0)
    frames = {name: rng.permutation(9000)[:5000] + 1 for name in ("a", "b_left")}
    values = {
        name: np.column_stack(
            [
                rng.uniform(-1, 1, (5000, 2)).round(6),
                rng.integers(-1, 8, (5000, 1)),
                rng.integers(-1, 2, (5000, 12)),
            ]
        )
        for name in frames
    }
    lines = [
        f"{name}/{number:05}.jpg,{','.join(f'{value:g}' for value in line)}"
        for name in frames
        for number, line in zip(frames[name], values[name], strict=True)
    ]
    rng.shuffle(lines)
    write(root / VAL, *lines)
    labels = labels_of(root)
    for name in frames:
        expected = np.array([NOTHING] * frames[name].max(), dtype=float)
        for number, line in zip(frames[name], values[name], strict=True):
            expected[number - 1] = line
        np.testing.assert_allclose(labels[name].read(), expected, atol=1e-6)


def test_windows_line_ends_and_a_byte_order_mark_are_read(root):
    content = "\r\n".join([HEADER.replace(",", ", "), row("a/00001.jpg"), row("a/00002.jpg"), "", ""])
    (root / TRAIN).write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert errors_of(root) == []
    assert len(labels_of(root)["a"].read()) == 2


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (row("a/00002.jpg") + ",0", "16 columns expected .* found 17"),
        (row("a/00002.jpg")[:-2], "16 columns expected .* found 15"),
        ("a/00002.jpg", "16 columns expected .* found 1"),
        ("", "16 columns expected .* found 1"),
        (row("a/00002.jpg", valence=1.5), "valence should be -1 to 1, or -5 .* found '1.5'"),
        (row("a/00002.jpg", arousal=float("nan")), "arousal should be -1 to 1, or -5 .* found 'nan'"),
        (row("a/00002.jpg", expression=8), "expression should be 0 to 7, or -1 .* found '8'"),
        (row("a/00002.jpg", expression=-5), "expression should be 0 to 7, or -1 .* found '-5'"),
        (row("a/00002.jpg", units=AUS[:-1] + "2"), "AU26 should be 0 to 1, or -1 .* found '2'"),
        (row("a/00002.jpg", units="x" + AUS[1:]), "AU1 should be 0 to 1, or -1 .* found 'x'"),
        (row("../x/00002.jpg"), "image should be <video>/<frame number>.jpg .* found '../x/00002.jpg'"),
        (row("../00002.jpg"), "image should be .* found '../00002.jpg'"),
        (row("/etc/00002.jpg"), "image should be .* found '/etc/00002.jpg'"),
        (row("c/a/00002.jpg"), "image should be .* found 'c/a/00002.jpg'"),
        (row("a\\00002.jpg"), r"image should be .* found"),
        (row("..\\a/00002.jpg"), r"image should be .* found"),
        (row("a/face.jpg"), "image should be .* found 'a/face.jpg'"),
        (row("a/00000.jpg"), "number from 1 to 1000000, found 'a/00000.jpg'"),
        (row("a/-0002.jpg"), "image should be .* found 'a/-0002.jpg'"),
        (row("a/1000001.jpg"), "number from 1 to 1000000, found 'a/1000001.jpg'"),
        (row("a/500001.jpg"), "line 4: a has frame 500,001, and 3 rows in all"),
        (row("a/999999999999.jpg"), "number from 1 to 1000000, found 'a/999999999999.jpg'"),
    ],
)
def test_one_bad_row_is_one_sentence_with_file_and_line(root, bad, words):
    write(root / TRAIN, row("a/00001.jpg"), row("b_left/00002.jpg"), bad, row("a/00003.jpg"))
    write(root / VAL, row("c/00001.jpg"))
    (error,) = errors_of(root)
    assert f"{TRAIN} line 4: " in error
    assert re.search(words, error)
    assert set(labels_of(root)) == {"c"}  # the other file counts


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "line 1: the header should be 'image,valence,arousal,expression,aus'"),
        (row("a/00001.jpg").encode(), "line 1: the header should be"),
        (HEADER.encode() + b"\n\n", "has a header but no rows"),
        (bytes(range(256)), "cannot be read as text"),
    ],
)
def test_a_file_that_is_none_is_one_error(root, content, words):
    (root / TRAIN).write_bytes(content)
    (error,) = errors_of(root)
    assert TRAIN in error and words in error


def test_doctor_counts_listed_frames_only(root):
    # of a: 2 and 5 listed, 9 is after its end; of b_left: 2 has a crop, 3 has none
    write(root / TRAIN, *[row(f"a/{number:05}.jpg") for number in (9, 2, 5)])
    write(root / VAL, row("b_left/00003.jpg"), row("b_left/00002.jpg"))
    reports = {report.video: report for report in doctor(root)}
    a, b = reports["a"], reports["b_left"]
    assert (a.split, a.extra_rows, a.n_labels_without_crop, a.n_crops_without_label) == (
        "train", {"mtl": 3}, {"mtl": 1}, {"mtl": 4}
    )  # fmt: skip
    assert (b.split, b.extra_rows, b.n_labels_without_crop, b.n_crops_without_label) == (
        "val", {"mtl": 0}, {"mtl": 1}, {"mtl": 1}
    )  # fmt: skip
    assert a.errors == b.errors == ()


def test_a_video_in_both_files_is_an_error_of_doctor_and_extract(root, run_cli, tmp_path):
    write(root / TRAIN, row("a/00001.jpg"), row("b_left/00002.jpg"))
    write(root / VAL, row("a/00002.jpg"))
    result = run_cli("doctor", "--data", root, "--json")
    found = {video["video"]: video for video in json.loads(result.stdout)["per_video"]}
    assert result.exit_code == 1
    assert found["a"]["split"] == "train+val" and found["b_left"]["errors"] == []
    (error,) = found["a"]["errors"]
    for result in (run_cli("doctor", "--data", root),
                   run_cli("extract", "--backbone", "hog", "--data", root, "--store", tmp_path / "s.zarr")):  # fmt: skip
        assert result.exit_code == 1
    assert f"{VAL} labels a video that" in error and f"{TRAIN} also labels: a. Delete its labels in one" in error


def test_a_video_that_is_only_listed_and_a_bad_file_are_errors_of_doctor(root, run_cli):
    write(root / TRAIN, row("ghost/00001.jpg"))
    write(root / VAL, "junk")
    result = run_cli("doctor", "--data", root)
    assert result.exit_code == 1
    assert "2 errors:" in result.stderr
    assert f"{TRAIN} labels a video without crops: ghost" in result.stderr
    assert f"{VAL} line 2: 16 columns expected" in result.stderr


def test_extract_puts_the_rows_into_the_store_beside_other_labels(root, make_labels, run_cli, tmp_path):
    make_labels(root, "VA_Estimation_Challenge/Train_Set", "a", "valence,arousal", *["0,0"] * 6)
    write(root / TRAIN, row("a/00003.jpg"))
    write(root / VAL, row("b_left/00004.jpg", expression=0))
    command = ("extract", "--backbone", "hog", "--data", root, "--store", tmp_path / "s.zarr")
    assert run_cli(*command).exit_code == 0
    store = FeatureStore.open(tmp_path / "s.zarr")
    assert store.tasks() == ["mtl", "va"]
    found = store.labels("mtl")
    assert {name: (labels.split, labels.rows.shape) for name, labels in found.items()} == {
        "a": ("train", (3, 15)), "b_left": ("val", (4, 15))
    }  # fmt: skip
    assert found["a"].rows[:2].tolist() == [NOTHING] * 2
    assert found["b_left"].rows[3, :3].tolist() == [0.5, -0.25, 0]
    assert store.read("hog", "b_left").present.tolist() == [False, True, False, True]
    # a bad file: its old labels stay, the rest goes on
    write(root / VAL, row("b_left/00004.jpg", expression=9))
    result = run_cli(*command)
    assert result.exit_code == 1
    assert "expression should be 0 to 7" in result.stderr
    assert "skipped 2" in result.stdout


def test_the_demo_has_the_task(tiny_store):
    found = FeatureStore.open(tiny_store).labels("mtl")
    va = FeatureStore.open(tiny_store).labels("va")
    assert {name: labels.split for name, labels in found.items()} == {name: labels.split for name, labels in va.items()}
    for name, labels in found.items():
        listed = (labels.rows != np.array(NOTHING)).any(1)
        n = min(len(labels.rows), len(va[name].rows))
        same = (labels.rows[:n, :2] == va[name].rows[:n]).all(1)
        assert same[listed[:n]].all()
        assert 0.85 < listed.mean() <= 1


@pytest.mark.parametrize("form", ["{}", "{:03}", "{:05}", "{:07}"])
def test_images_may_be_numbered_without_zeros_and_in_any_order(root, form):
    numbers = [10, 9, 100, 1, 2]
    lines = [row(f"a/{form.format(number)}.jpg", valence=number / 100) for number in numbers]
    write(root / TRAIN, *lines)
    found = labels_of(root)["a"].read()
    assert len(found) == 100
    assert {number: pytest.approx(number / 100) for number in numbers} == {
        number + 1: value for number, value in enumerate(found[:, 0]) if value != -5
    }
