"""Submission files: each format as written by hand, samples in all their forms, what is missing, and scores of files."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file

from abaw import pipeline
from abaw.core.claim_files import claimed
from abaw.core.clock import Clock
from abaw.core.errors import AbawError, DataError, StoreError, UsageError
from abaw.core.tasks import TASKS, Task
from abaw.datasets.layouts import open_dataset
from abaw.evaluate.ensemble import Ensemble
from abaw.evaluate.scores.metrics import decide
from abaw.evaluate.submission.coverage import VideoCoverage
from abaw.evaluate.submission.sample_files import read_sample
from abaw.evaluate.submission.score import outputs_of, score_predictions
from abaw.evaluate.submission.write import Submission, check_fits, write_submission
from abaw.evaluate.trained import OpenEnsemble, TrainedRun
from abaw.store import FeatureStore
from abaw.tests.support.paths import DATA
from abaw.tests.support.stores import new_store, put_feature
from abaw.tests.support.trainings import single_thread
from abaw.train.checkpoint import load_tensors, save_tensors
from abaw.train.config import make_config
from abaw.train.model import build_model
from abaw.train.new_run import start_run
from abaw.train.run_files import BEST
from abaw.train.runs import Run, open_run

GOLDEN = DATA / "golden"
CPU = torch.device("cpu")

# Four frames of which the third has no crop, and two: values that float16 holds exactly.
VA = {
    "a_left": [[0.5, -0.25], [0.125, 1.5], [0, 0], [-0.125, -2]],
    "a_right": [[-(2**-24), 1365 / 4096], [2**-13, -0.75]],
}
CLASSES = {"a_left": {0: (0, 1), 1: (3, 4), 3: (5, 8)}, "a_right": {0: (7, 1), 1: (6, 1)}}  # row: class, its logit
UNITS = {
    "a_left": {0: {0: 1}, 1: {1: 2, 2: 1}, 3: {1: -1, 2: -4, 11: 3}},
    "a_right": {0: dict.fromkeys(range(12), 1), 1: {}},
}
MISSING = ("a_left", 2)


def outputs(task: str, video: str) -> np.ndarray:
    """(rows, outputs) by hand; off is a logit of -1."""
    n_rows = len(VA[video])
    if task == "va":
        return np.array(VA[video], dtype=np.float32)
    if task == "expr":
        found = np.zeros((n_rows, 8), dtype=np.float32)
        for row, (index, logit) in CLASSES[video].items():
            found[row, index] = logit
        return found
    if task == "au":
        found = np.full((n_rows, 12), -1, dtype=np.float32)
        for row, logits in UNITS[video].items():
            for unit, logit in logits.items():
                found[row, unit] = logit
        return found
    return np.concatenate([outputs(part, video) for part in ("va", "expr", "au")], axis=1)


def store_of(task: str, path: Path) -> FeatureStore:
    store = new_store(path, {"f": (len(TASKS[task].outputs),)})
    for video in VA:
        values = outputs(task, video)
        present = np.arange(len(values)) != MISSING[1] if video == MISSING[0] else None
        put_feature(store, "f", video, values, present)
    return store


def copying_run(store: FeatureStore, task: str, features: tuple[str, ...] = ("f",), name: str = "run") -> Run:
    """A run, in a folder next to the store, whose outputs are its first feature."""
    window = 1 if task == "lsd" else 4
    config = make_config({"task": task, "features": features, "head": {"name": "linear"}, "window": window})
    run = start_run(config, store, Path(store.path).parent / "runs", name)
    model = build_model(run)
    state = {key: torch.zeros_like(value) if "output" in key else value for key, value in model.state_dict().items()}
    n = len(TASKS[task].outputs)
    state["heads.0.output.weight"][:, :n] = torch.eye(n)
    save_tensors(run.folder / BEST, state, {"epoch": "1", "score": "0"})
    return run


def write(store: FeatureStore, task: str, sample: Path, out: Path, **options: Any) -> Submission:
    folder = Path(store.path).parent / "runs" / "run"
    run = open_run(folder) if folder.exists() else copying_run(store, task)
    return write_submission(TrainedRun.open(run, "cpu"), store, read_sample(sample), out, **options)


@pytest.fixture
def va_store(tmp_path: Path) -> FeatureStore:
    return store_of("va", tmp_path / "store.zarr")


# each format


@pytest.mark.parametrize("task", ["va", "expr", "au", "mtl"])
def test_every_format_as_written_by_hand(tmp_path: Path, task: str) -> None:
    """Rows in the sample's order, the frame without a crop interpolated, the one after the end as the last."""
    out = tmp_path / "predictions.txt"
    found = write(store_of(task, tmp_path / "s.zarr"), task, GOLDEN / f"sample_{task}.txt", out)
    assert out.read_bytes() == (GOLDEN / f"predictions_{task}.txt").read_bytes()
    rows = (VideoCoverage("a_right", 2, 0, 2, 2), VideoCoverage("a_left", 5, 2, 5, 4))
    assert found == Submission(out, 7, 2, (), rows, ("vision",), {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.txt", "runs", "s.zarr"]


@pytest.mark.parametrize("task", ["va", "expr", "au"])
def test_one_file_per_video_for_a_list_of_videos(tmp_path: Path, task: str) -> None:
    out = tmp_path / "predictions"
    found = write(store_of(task, tmp_path / "s.zarr"), task, GOLDEN / "videos.txt", out)
    for video in ("a_left", "a_right"):
        assert (out / f"{video}.txt").read_bytes() == (GOLDEN / f"videos_{task}" / f"{video}.txt").read_bytes()
    assert len(list(out.iterdir())) == 2
    rows = (VideoCoverage("a_right", 2, 0, 2, 2), VideoCoverage("a_left", 4, 1, 4, 4))
    assert found == Submission(out, 6, 2, (), rows, ("vision",), {})


def lsd_case(tmp_path: Path) -> tuple[Path, FeatureStore]:
    """Test images 0, 2, 10 (in this order in the store) of the classes 5, 0, 2, and images of other splits."""
    data = tmp_path / "data"
    for place in ("test_set_real_images", "validation_set_real_images/FEAR"):
        (data / place).mkdir(parents=True)
        for number in (0, 2, 10):
            Image.new("RGB", (8, 8), (number, 0, 0)).save(data / place / f"{number}.jpg")
    store = new_store(tmp_path / "s.zarr", {"f": (6,)})
    dataset = open_dataset(data)
    (video,) = (video for video in dataset.videos if video.name == "test")
    put_feature(store, "f", "test", np.eye(6)[[5, 0, 2]], source=dataset.open(video).digest())
    return data, store


def test_images_of_lsd_are_found_by_their_names(tmp_path: Path) -> None:
    data, store = lsd_case(tmp_path)
    found = write(store, "lsd", GOLDEN / "sample_lsd.txt", tmp_path / "p.txt", data=data)
    assert (tmp_path / "p.txt").read_bytes() == (GOLDEN / "predictions_lsd.txt").read_bytes()
    assert (found.n_rows, found.n_videos) == (3, 0)


def test_images_of_lsd_that_are_not_those_of_the_store(tmp_path: Path) -> None:
    data, store = lsd_case(tmp_path)
    with pytest.raises(DataError, match="Pass it with --data"):
        write(store, "lsd", GOLDEN / "sample_lsd.txt", tmp_path / "p.txt")
    (data / "test_set_real_images" / "2.jpg").rename(data / "test_set_real_images" / "3.jpg")
    with pytest.raises(DataError, match=r"are not those that feature 'f' .* Run the same `abaw extract` again"):
        write(store, "lsd", GOLDEN / "sample_lsd.txt", tmp_path / "p.txt", data=data)
    (data / "test_set_real_images" / "3.jpg").rename(data / "test_set_real_images" / "2.jpg")
    sample = tmp_path / "sample.txt"
    sample.write_text("image,expression\n0.jpg,\n../data/2.jpg,\n7.jpg,\n")
    with pytest.raises(
        DataError, match=r"2 of 3 images of .* are not among the test images .*: \.\./data/2\.jpg, 7\.jpg"
    ):
        write(store, "lsd", sample, tmp_path / "p.txt", data=data)
    assert not (tmp_path / "p.txt").exists()


def test_file_of_lsd_is_scored_by_the_names_of_the_images(tmp_path: Path) -> None:
    data, store = lsd_case(tmp_path)
    store.write_labels("lsd", "val-fear", "val", np.full((3, 1), 2, dtype=np.int8))
    path = tmp_path / "p.txt"
    path.write_text("image,expression\n2.jpg,2\n0.jpg,2\n10.jpg,1\n")
    found = score_predictions(store, TASKS["lsd"], "val", path, data=data)
    assert found.official.parts["Fear"] == pytest.approx(2 * 2 / (2 * 2 + 1))
    assert found.predictions["val-fear"].outputs.argmax(axis=1).tolist() == [2, 2, 1]
    shutil.copytree(data / "validation_set_real_images/FEAR", data / "validation_set_real_images/ANGER")
    store.write_labels("lsd", "val-anger", "val", np.zeros((3, 1), dtype=np.int8))
    with pytest.raises(
        DataError, match=r"has two images 0\.jpg \(val-anger and val-fear\), and a submission file cannot distinguish"
    ):
        score_predictions(store, TASKS["lsd"], "val", path, data=data)


def test_numbers_are_never_written_with_an_exponent_or_a_minus_zero(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (2,)})
    put_feature(store, "f", "a", np.array([[1e-6, -1e-7], [1, -1], [-0.0, 4e-7]]))
    sample = tmp_path / "sample.txt"
    sample.write_text("image_location,valence,arousal\na/00001.jpg,\na/00002.jpg,\na/00003.jpg,\n")
    write(store, "va", sample, tmp_path / "p.txt")
    wanted = ["a/00001.jpg,0.000001,0.000000", "a/00002.jpg,1.000000,-1.000000", "a/00003.jpg,0.000000,0.000000"]
    assert (tmp_path / "p.txt").read_text().splitlines()[1:] == wanted


# samples


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(lambda text: "\ufeff" + text, id="byte order mark"),
        pytest.param(lambda text: text.removesuffix("\n"), id="no newline at the end"),
        pytest.param(lambda text: text + "\n\n", id="empty lines at the end"),
        pytest.param(lambda text: text.replace(".jpg,", ".jpg,0.0,-5"), id="dummy values"),
        pytest.param(lambda text: text.replace(".jpg,", ".jpg"), id="no commas"),
    ],
)
def test_samples_in_all_their_forms(va_store: FeatureStore, tmp_path: Path, change: Callable[[str], str]) -> None:
    sample = tmp_path / "sample.txt"
    sample.write_bytes(change((GOLDEN / "sample_va.txt").read_text()).encode())
    write(va_store, "va", sample, tmp_path / "p.txt")
    assert (tmp_path / "p.txt").read_bytes() == (GOLDEN / "predictions_va.txt").read_bytes()


def test_order_is_that_of_a_shuffled_sample(va_store: FeatureStore, tmp_path: Path) -> None:
    header, *lines = (GOLDEN / "sample_va.txt").read_text().splitlines()
    shuffled = [lines[place] for place in np.random.default_rng(0).permutation(len(lines))]
    sample = tmp_path / "sample.txt"
    sample.write_text("\n".join([header, *shuffled]))
    write(va_store, "va", sample, tmp_path / "p.txt")
    answers = dict(line.split(",", 1) for line in (GOLDEN / "predictions_va.txt").read_text().splitlines())
    wanted = [f"{line}{answers[line.rstrip(',')]}" for line in shuffled]
    assert (tmp_path / "p.txt").read_text().splitlines()[1:] == wanted


def test_six_digit_frame_numbers(va_store: FeatureStore, tmp_path: Path) -> None:
    sample = tmp_path / "sample.txt"
    sample.write_text("image_location,valence,arousal\na_right/100001.jpg,\na_right/00001.jpg,\n")
    write(va_store, "va", sample, tmp_path / "p.txt")
    wanted = ["a_right/100001.jpg,0.000122,-0.750000", "a_right/00001.jpg,0.000000,0.333252"]
    assert (tmp_path / "p.txt").read_text().splitlines()[1:] == wanted


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "image_location,valence\na/00001.jpg,\n",
            "line 1: 'image_location,valence' is not the header of a known challenge",
        ),
        ("image_location,valence,arousal\n", "has a header but no rows"),
        ("image_location,valence,arousal\na/00001.jpg,\n../a/00002.jpg,\n", "line 3: the image should be <video>"),
        ("image_location,valence,arousal\na/00000.jpg,\n", "line 2: the image should be .* found 'a/00000.jpg'"),
        ("image_location,valence,arousal\na/00001.jpg,\n\na/00002.jpg,\n", "line 3: the image should be .* found ''"),
        ("a_left\n../etc/passwd\n", "line 2: '../etc/passwd' is not a valid video name"),
        ("a_left\na_left\n", "line 2: a_left is already on line 1"),
        ("a_left\n\nb\n  \nb\n", "line 5: b is already on line 3"),
        ("caf\u00e9\ncafe\u0301\n", "line 2: .* is already on line 1"),
        ("", "is empty"),
    ],
)
def test_invalid_samples_are_refused(tmp_path: Path, text: str, said: str) -> None:
    sample = tmp_path / "sample.txt"
    sample.write_text(text)
    with pytest.raises(DataError, match=said):
        read_sample(sample)


def test_missing_sample_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.txt cannot be read"):
        read_sample(tmp_path / "none.txt")


def test_sample_of_another_task_and_output_that_is_there(tmp_path: Path) -> None:
    sample, out = read_sample(GOLDEN / "sample_va.txt"), tmp_path / "p.txt"
    with pytest.raises(UsageError, match=r"is a sample of task va, but the run was trained for expr. Use a run of va"):
        check_fits(TASKS["expr"], sample, out)
    with pytest.raises(UsageError, match="Task vgaf has no format for a submission file; tasks with one: va, expr"):
        check_fits(TASKS["vgaf"], sample, out)
    with pytest.raises(UsageError, match="Task mtl has no format for one submission file per video"):
        check_fits(TASKS["mtl"], read_sample(GOLDEN / "videos.txt"), out)
    out.write_text("mine")
    with pytest.raises(
        UsageError, match=r"p\.txt exists. Delete it, or choose another path, such as --out .*p-2\.txt\."
    ):
        check_fits(TASKS["va"], sample, out)


def test_names_of_videos_may_have_any_space_and_no_control_characters(tmp_path: Path) -> None:
    file = tmp_path / "sample.txt"
    file.write_text("9.41.00\u202fAM\na\u3000b\n", encoding="utf-8")
    assert read_sample(file).videos == ("9.41.00\u202fAM", "a\u3000b")
    file.write_text("a\u202eb\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 1: .* is not a valid video name"):
        read_sample(file)


# missing videos


def with_absent(tmp_path: Path) -> Path:
    sample = tmp_path / "sample.txt"
    sample.write_text((GOLDEN / "sample_va.txt").read_text() + "b/00001.jpg,\nb/00002.jpg,\n")
    return sample


def test_videos_that_are_not_in_the_store_are_named(va_store: FeatureStore, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"1 of 3 videos of .* lack f in .*: b\. Run `abaw extract`.*--allow-missing"):
        write(va_store, "va", with_absent(tmp_path), tmp_path / "p.txt")
    assert not list(tmp_path.glob("p.txt*"))


def test_missing_videos_get_the_mean_output_if_that_is_allowed(va_store: FeatureStore, tmp_path: Path) -> None:
    """The mean of the five frames that have a crop: valence .5 / 5, arousal (-.25 + 1.5 - 2 + 1365/4096 - .75) / 5."""
    found = write(va_store, "va", with_absent(tmp_path), tmp_path / "p.txt", allow_missing=True)
    assert found.without_feature == ("b",)
    golden = (GOLDEN / "predictions_va.txt").read_text().splitlines()
    wanted = [*golden, "b/00001.jpg,0.100024,-0.233350", "b/00002.jpg,0.100024,-0.233350"]
    assert (tmp_path / "p.txt").read_text().splitlines() == wanted


def test_nothing_is_written_if_no_video_is_there(va_store: FeatureStore, tmp_path: Path) -> None:
    sample = tmp_path / "sample.txt"
    sample.write_text("image_location,valence,arousal\nx/00001.jpg,\ny/00001.jpg,\n")
    with pytest.raises(
        StoreError, match=r"2 of 2 videos .*: x, y\. Run `abaw extract` on the data folder that has their crops\.$"
    ):
        write(va_store, "va", sample, tmp_path / "p.txt", allow_missing=True)


def test_number_of_frames_of_a_missing_video_cannot_be_guessed(va_store: FeatureStore, tmp_path: Path) -> None:
    sample = tmp_path / "videos.txt"
    sample.write_text("a_left\nb\n")
    with pytest.raises(StoreError, match=r"1 of 2 videos .*: b\. Run `abaw extract` .* crops\.$"):
        write(va_store, "va", sample, tmp_path / "out", allow_missing=True)


def test_places_that_cannot_be_written(va_store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for sample, out in (("sample_va.txt", "file/p.txt"), ("videos.txt", "file/folder")):
        with pytest.raises(UsageError, match=r"cannot be written \(.*\)\. Choose another path with --out"):
            write(va_store, "va", GOLDEN / sample, tmp_path / out)


def test_outputs_that_are_not_numbers_are_not_submitted(tmp_path: Path, va_store: FeatureStore) -> None:
    file = copying_run(va_store, "va").folder / BEST
    state = load_file(file)
    state["heads.0.output.bias"][0] = np.nan
    save_tensors(file, state, {"epoch": "1", "score": "0"})
    with pytest.raises(AbawError, match=r"line 2: valence should be a number from -1 to 1, found 'nan'\. Nothing was"):
        write(va_store, "va", GOLDEN / "sample_va.txt", tmp_path / "p.txt")
    assert not (tmp_path / "p.txt").exists()


# what was filled


def test_rows_with_a_feature_of_any_run_are_not_filled(tmp_path: Path) -> None:
    """Of the wanted rows 1, 3 and 6, `f` has the first alone and `g`, a row longer, the second; the others are not asked."""
    store = new_store(tmp_path / "s.zarr", {"f": (2,)})
    store.add_feature("g", {"shape": [2], "weights": "none", "modality": "audio"}, None, "d" * 64)
    put_feature(store, "f", "a", np.ones((4, 2)), np.isin(np.arange(4), [0, 1]))
    put_feature(store, "g", "a", np.ones((5, 2)), np.isin(np.arange(5), [1, 2]))
    sample, out = tmp_path / "sample.txt", tmp_path / "p.txt"
    sample.write_text("image_location,valence,arousal\na/00006.jpg,\na/00001.jpg,\na/00003.jpg,\n")
    runs = [copying_run(store, "va", (feature,), feature) for feature in ("f", "g")]
    ensemble = Ensemble(tmp_path / "runs" / "both", TASKS["va"], (0.5, 0.5), tuple(run.name for run in runs), raw=False)
    found = write_submission(OpenEnsemble.open(ensemble, "cpu"), store, read_sample(sample), out)
    assert found.videos == (VideoCoverage("a", 3, 1, 6, 5),)
    assert found.modalities == ("vision", "audio") and not found.without_feature


def test_coverage_ends_with_the_last_frame_of_the_sample(va_store: FeatureStore, tmp_path: Path) -> None:
    """The store has four frames of a_left, the third without a crop; the sample has the first and the third."""
    sample = tmp_path / "sample.txt"
    sample.write_text("image_location,valence,arousal\na_left/00003.jpg,\na_left/00001.jpg,\n")
    assert write(va_store, "va", sample, tmp_path / "p.txt").videos == (VideoCoverage("a_left", 2, 1, 3, 4),)


def test_length_is_from_crops_where_no_feature_was_made_with_the_file(tmp_path: Path) -> None:
    store = new_store(tmp_path / "s.zarr", {"f": (2,)})
    store.add_feature("g", {"shape": [2], "weights": "none"}, None, "d" * 64)
    for feature, video, is_guessed in (("f", "a", True), ("g", "a", True), ("f", "b", True), ("g", "b", False)):
        put_feature(store, feature, video, np.ones((3, 2)), **Clock(25.0, 3, is_guessed=is_guessed).attrs)
    sample = tmp_path / "videos.txt"
    sample.write_text("a\nb\n")
    run = TrainedRun.open(copying_run(store, "va", ("f", "g")), "cpu")
    found = write_submission(run, store, read_sample(sample), tmp_path / "out")
    assert found.videos == (VideoCoverage("a", 3, 0, 3, 3, True), VideoCoverage("b", 3, 0, 3, 3, False))


# scores of files


LABELS = {
    "va": np.array([[0.5, -0.25], [-5, -5], [0.125, -5], [-1, 1]], dtype=np.float32),
    "expr": np.array([[0], [7], [-1], [3]], dtype=np.int8),
    "au": np.array([[0] * 12, [1] * 12, [-1] * 12, [0, 1] * 6], dtype=np.int8),
}
LABELS["mtl"] = np.concatenate([LABELS[task].astype(np.float32) for task in ("va", "expr", "au")], axis=1)


def labelled_store(path: Path, task: str) -> FeatureStore:
    store = new_store(path, {"f": (2,)})
    put_feature(store, "f", "a_left", np.ones((3, 2)), [True, False, True])
    store.write_labels(task, "a_left", "val", LABELS[task])
    store.write_labels(task, "b", "val", LABELS[task][:1])
    return store


def file_of_labels(path: Path, task: Task) -> Path:
    """The labels as predictions; dummy values where there are none, and a row of a video that has no labels."""
    header = (GOLDEN / f"sample_{task.name}.txt").read_text().splitlines()[0]
    usable = np.where(task.valid(LABELS[task.name]), LABELS[task.name], 0)
    lines = [",".join(f"{value:g}" for value in row) for row in usable.tolist()]
    images = ["b/00001.jpg", "c/00001.jpg", *(f"a_left/{number:05}.jpg" for number in (1, 2, 3, 4))]
    rows = [f"{image},{line}" for image, line in zip(images, [lines[0], lines[0], *lines], strict=True)]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.parametrize("task", sorted(LABELS))
def test_labels_as_predictions_are_right(tmp_path: Path, task: str) -> None:
    """F1 of the classes that do not occur is 0: of 0, 3, 7 are three of eight right; the other measures are perfect."""
    store = labelled_store(tmp_path / "s.zarr", task)
    found = score_predictions(store, TASKS[task], "val", file_of_labels(tmp_path / "p.txt", TASKS[task]))
    perfect = {"va": 1, "expr": 3 / 8, "au": 1}
    wanted = sum(perfect.values()) if task == "mtl" else perfect[task]
    assert found.official.score == pytest.approx(wanted)
    # rows 1 and 3 of a_left have a crop; its row 4 and the video b have none
    has_label = TASKS[task].valid(LABELS[task]).any(axis=1)
    assert found.crop_only.n_frames == has_label[[0, 2]].sum()
    assert found.official.n_frames == has_label.sum() + 1


@pytest.mark.parametrize("task", sorted(LABELS))
def test_outputs_decide_as_the_answers(task: str) -> None:
    answers = np.abs(np.where(TASKS[task].valid(LABELS[task]), LABELS[task], 0)).astype(np.float32)
    np.testing.assert_array_equal(decide(TASKS[task], outputs_of(TASKS[task], answers)), answers)


def test_every_label_must_be_answered(tmp_path: Path) -> None:
    store = labelled_store(tmp_path / "s.zarr", "va")
    path = file_of_labels(tmp_path / "p.txt", TASKS["va"])
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "a_left/00002" not in line))  # a frame without labels
    score_predictions(store, TASKS["va"], "val", path)
    path.write_text("".join(line for line in lines if "a_left/00003" not in line and not line.startswith("b/")))
    with pytest.raises(
        DataError, match=r"no prediction for 2 of the 4 va labels of val, the first being frame 3 of a_left"
    ):
        score_predictions(store, TASKS["va"], "val", path)


def test_files_that_cannot_be_scored(tmp_path: Path) -> None:
    store, path = labelled_store(tmp_path / "s.zarr", "va"), tmp_path / "p.txt"
    for text, said in (
        ("image_location,valence\n", "line 1: the header should be 'image_location,valence,arousal'"),
        ("image_location,valence,arousal\n", "has a header but no rows"),
        (
            "image_location,valence,arousal\nb/1.jpg,0,0\nb/2.jpg,0,2\n",
            "line 3: arousal should be a number from -1 to 1",
        ),
        (
            "image_location,valence,arousal\nb/1.jpg,0,0\nb/2.jpg,0,0\nb/00001.png,0,0.5\n",
            r"p.txt lines 2 and 4 answer frame 1 of b differently, which has one label. Keep one of them",
        ),
        ("image_location,valence,arousal\nb/1.jpg,\n", "line 2: 2 values separated by commas are expected"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=said):
            score_predictions(store, TASKS["va"], "val", path)
    with pytest.raises(UsageError, match="has va labels of val, but not of 'train'"):
        score_predictions(store, TASKS["va"], "train", path)
    with pytest.raises(UsageError, match="No feature 'g'"):
        score_predictions(store, TASKS["va"], "val", path, feature="g")


# the commands


@pytest.fixture(scope="module")
def trained(tiny_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Folder of a short run of each task on the tiny demo."""
    with single_thread():
        runs, store = tmp_path_factory.mktemp("submission") / "runs", FeatureStore.open(tiny_store)
        for task in ("va", "expr", "au"):
            values = {"task": task, "features": ("hog",), "head": {"name": "linear"}}
            config = make_config(values, ["epochs=2", "window=20", "warmup=0", "batch_size=4"])
            run = start_run(config, store, runs, task)
            pipeline.train(run, store, device="cpu")
    yield runs


@pytest.fixture
def call(
    run_cli: Callable[..., Result], tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """`abaw ARGS` on the store of the tiny demo, in an empty folder without data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABAW_STORE", str(tiny_store))
    monkeypatch.setenv("ABAW_DATA", str(tmp_path / "none"))
    return run_cli


def said_by(result: Result) -> list[str]:
    """Lines on standard error but the one that names the device."""
    return [line for line in result.stderr.splitlines() if not line.startswith("Device: ")]


def sample_of(store: Path, task: str, path: Path) -> Path:
    """A sample that wants every labelled row of the validation videos, the last video first."""
    header = (GOLDEN / f"sample_{task}.txt").read_text().splitlines()[0]
    labels = FeatureStore.open(store).labels(task, "val")
    rows = [f"{video}/{row + 1:05}.jpg," for video, found in reversed(labels.items()) for row in range(len(found.rows))]
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


@pytest.mark.parametrize("task", ["va", "expr", "au"])
def test_submitted_file_scores_as_its_run(
    call: Callable[..., Result], trained: Path, tiny_store: Path, tmp_path: Path, task: str
) -> None:
    sample = sample_of(tiny_store, task, tmp_path / "sample.txt")
    result = call("submit", task, "--runs", trained, "--sample", sample, "--device", "cpu")
    assert result.exit_code == 0, result.output
    n_rows = len(sample.read_text().splitlines()) - 1
    assert f"predictions.txt: {n_rows} rows, " in result.stdout and "being trained" not in result.stderr
    of_run = json.loads(call("eval", task, "--runs", trained, "--device", "cpu", "--json").stdout)
    of_file = json.loads(call("eval", "--predictions", "predictions.txt", "--json").stdout)
    for seen in ("official", "crop_only"):
        assert of_file[seen]["score"] == pytest.approx(of_run[seen]["score"], abs=1e-5)
        assert of_file[seen]["support"] == of_run[seen]["support"]
    assert (of_file["task"], of_file["split"], of_file["run"]) == (task, "val", "predictions.txt")


def test_submitted_folder_scores_as_its_run(
    call: Callable[..., Result], trained: Path, tiny_store: Path, tmp_path: Path
) -> None:
    """Labels may go on for a row after the last frame, where one file per frame ends: those are cut off in the store."""
    store = tmp_path / "store.zarr"
    shutil.copytree(tiny_store, store)
    opened = FeatureStore.create(store)
    for video, found in opened.labels("va", "val").items():
        opened.write_labels("va", video, "val", found.rows[: opened.videos("hog")[video]["n_frames"]])
    names = list(opened.labels("va", "val"))
    (tmp_path / "videos.txt").write_text("\n".join(names))
    shutil.copytree(trained / "va", tmp_path / "runs" / "va")
    with claimed(tmp_path / "runs" / "va"):  # as `abaw train` does
        result = call("submit", "va", "--runs", "runs", "--sample", "videos.txt", "--device", "cpu")
    assert result.exit_code == 0 and f"va is being trained by process {os.getpid()} on " in result.stderr
    assert sorted(path.stem for path in (tmp_path / "predictions").iterdir()) == sorted(names)
    of_run = json.loads(call("eval", "va", "--runs", trained, "--device", "cpu", "--json", "--store", store).stdout)
    result = call("eval", "--predictions", "predictions", "--task", "va", "--json", "--store", store)
    assert json.loads(result.stdout)["official"]["score"] == pytest.approx(of_run["official"]["score"], abs=1e-5)


def test_post_processing_of_the_run_is_applied(
    call: Callable[..., Result], trained: Path, tiny_store: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(trained, runs)
    sample = sample_of(tiny_store, "au", tmp_path / "sample.txt")
    options = ("submit", "au", "--runs", runs, "--sample", sample, "--device", "cpu", "--out")
    assert "post-processed" not in call(*options, "before.txt").stderr
    assert call("tune", "au", "--runs", runs, "--fit-on", "val", "--device", "cpu").exit_code == 0
    said = "au is post-processed (fitted on val: optimistic). Leave that out with --raw.\n"
    assert said in call(*options, "tuned.txt").stderr
    result = call(*options, "raw.txt", "--raw")
    assert result.exit_code == 0 and "post-processed" not in result.stderr
    tuned = json.loads(call("eval", "au", "--runs", runs, "--device", "cpu", "--json").stdout)["postprocessed"]
    scored = json.loads(call("eval", "--predictions", "tuned.txt", "--json").stdout)
    assert scored["official"]["score"] == pytest.approx(tuned["official"]["score"], abs=1e-6)
    assert Path("raw.txt").read_bytes() == Path("before.txt").read_bytes() != Path("tuned.txt").read_bytes()


def test_post_processing_of_other_videos_is_not_called_optimistic(
    call: Callable[..., Result], trained: Path, tiny_store: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(trained, runs)
    sample = sample_of(tiny_store, "va", tmp_path / "sample.txt")
    assert call("tune", "va", "--runs", runs, "--fit-on", "train", "--device", "cpu").exit_code == 0
    result = call("submit", "va", "--runs", runs, "--sample", sample, "--device", "cpu")
    assert "va is post-processed (fitted on train). Leave that out with --raw.\n" in result.stderr


def extracted(call: Callable[..., Result], data: Path, store: Path) -> Path:
    result = call("extract", "--backbone", "hog", "--data", data, "--store", store, "--device", "cpu")
    assert result.exit_code == 0, result.output
    return store


def test_videos_that_end_at_their_last_crop_are_named(
    call: Callable[..., Result], trained: Path, tmp_path: Path, make_data: Callable[..., Path], numbered: Any
) -> None:
    data = make_data({"a": [1, 3], "b": 2, "c": 2, "d": 2, "film": 2})
    numbered.write(data / "videos/film.mp4", n_frames=10)
    store = extracted(call, data, tmp_path / "own.zarr")
    (tmp_path / "videos.txt").write_text("a\nb\nc\nd\nfilm\n")
    options = ("submit", "va", "--runs", trained, "--sample", "videos.txt", "--store", store, "--device", "cpu")
    result = call(*options)
    following = "Next: abaw check-submission predictions --sample videos.txt\n"
    assert (result.exit_code, result.stdout) == (0, f"predictions: 19 rows, 5 videos, by va.\n{following}")
    assert said_by(result) == [
        "4 of 5 videos may be too short. They end at their last crop, because no video file gives their length: a, b, c "
        "and 1 more. Put the video files into videos/ and run `abaw extract` again, or use the official sample file.",
        "9 of 19 rows have no crop and were filled from other frames; most in film (8 of 10).",
    ]
    for name in "abcd":
        numbered.write(data / f"videos/{name}.mp4", n_frames=6)
    extracted(call, data, store)
    result = call(*options, "--out", "again")
    assert result.stdout.startswith("again: 34 rows, 5 videos, by va.\nNext: ")
    assert said_by(result) == ["24 of 34 rows have no crop and were filled from other frames; most in film (8 of 10)."]


def test_filled_rows_and_frames_after_the_end_are_reported(
    call: Callable[..., Result], trained: Path, tmp_path: Path, make_data: Callable[..., Path], numbered: Any
) -> None:
    """A row after the last frame is normal, but filled; where no video file tells its length, any number is."""
    n_frames = {"a": 3, "b": 2, "c": 2}
    data = make_data({**n_frames, "d": 2})
    for name, n in n_frames.items():
        numbered.write(data / f"videos/{name}.mp4", n_frames=n)
    store = extracted(call, data, tmp_path / "own.zarr")
    options = (
        "submit",
        "va",
        "--runs",
        trained,
        "--sample",
        "sample.txt",
        "--store",
        store,
        "--device",
        "cpu",
        "--out",
    )

    def said(**last: int) -> list[str]:
        images = [f"{video}/{number + 1:05}.jpg," for video, n in last.items() for number in range(n)]
        (tmp_path / "sample.txt").write_text("\n".join(["image_location,valence,arousal", *images]) + "\n")
        result = call(*options, "-".join(f"{video}{n}" for video, n in last.items()))
        assert result.exit_code == 0, result.output
        return said_by(result)

    assert said(a=3, b=2) == []
    assert said(a=4, b=2) == ["1 of 6 rows has no crop and was filled from other frames; all in a (1 of 4)."]
    assert said(a=3, d=5) == ["3 of 8 rows have no crop and were filled from other frames; all in d (3 of 5)."]
    assert said(a=5, b=2) == [
        "The sample continues after the end of 1 video, farthest in a: to frame 5, where the store has 3 frames. Check that "
        "the crops are of the sample's videos, unless no video file gave their length.",
        "2 of 7 rows have no crop and were filled from other frames; all in a (2 of 5).",
    ]
    assert said(a=5, b=1003, c=3) == [
        "The sample continues after the end of 2 videos, farthest in b: to frame 1,003, where the store has 2 frames. Check "
        "that the crops are of the sample's videos, unless no video file gave their length.",
        "1,004 of 1,011 rows have no crop and were filled from other frames; most in b (1,001 of 1,003).",
    ]


def test_refusals_of_submit(call: Callable[..., Result], trained: Path, tiny_store: Path, tmp_path: Path) -> None:
    sample = sample_of(tiny_store, "va", tmp_path / "sample.txt")
    options = ("submit", "va", "--runs", trained, "--sample", sample, "--device", "cpu")
    for name in ("predictions.txt", "predictions-2.txt"):
        (tmp_path / name).write_text("mine")
    result = call(*options)
    assert (result.exit_code, said_by(result)) == (
        2,
        ["Error: predictions.txt exists. Delete it, or choose another path, such as --out predictions-3.txt."],
    )
    assert (tmp_path / "predictions.txt").read_text() == "mine"
    with sample.open("a") as file:
        file.write("nobody/00001.jpg,\n")
    result = call(*options, "--out", "deep/er/p.txt")
    assert result.exit_code == 1 and "nobody. Run `abaw extract`" in result.stderr
    result = call(*options, "--out", "deep/er/p.txt", "--allow-missing")
    assert result.exit_code == 0
    assert "Videos without any feature got the mean output of the others:\n  nobody\n" in result.stderr
    assert (tmp_path / "deep/er/p.txt").read_text().splitlines()[-1].startswith("nobody/00001.jpg,")


def test_best_run_of_the_samples_task_is_taken(
    call: Callable[..., Result], trained: Path, tiny_store: Path, tmp_path: Path
) -> None:
    """By its score on the official validation set; folds, runs on other features and stale ensembles are passed over."""
    runs = tmp_path / "runs"
    shutil.copytree(trained, runs)
    score = json.loads(call("list", "runs", "--runs", runs, "--json", "expr").stdout)["runs"][0]["score"]
    for name, better, change in (
        ("worse", -0.01, {}),
        ("folded", 0.2, {"fold": "1/2"}),
        ("other", 0.1, {"features": ["vit-mean"]}),
    ):
        shutil.copytree(runs / "expr", runs / name)
        content = json.loads((runs / name / "config.json").read_text())
        content["config"] |= change
        content["features"] |= dict.fromkeys(change.get("features", ()), content["features"]["hog"])
        (runs / name / "config.json").write_text(json.dumps(content))
        tensors, _ = load_tensors(runs / name / "best.safetensors")
        save_tensors(runs / name / "best.safetensors", tensors, {"epoch": "1", "score": repr(score + better)})
    (runs / "broken").mkdir()
    (runs / "broken/config.json").write_text("{")
    sample = sample_of(tiny_store, "expr", tmp_path / "sample.txt")
    result = call("submit", "--runs", runs, "--sample", sample, "--device", "cpu")
    first, last, _ = result.stdout.splitlines()
    assert first == f"expr is taken: the best of task expr, {score:.3f} on val."
    assert last.endswith(" videos, by expr.")
    said = result.stderr.splitlines()
    start = said.index("Passed over:")
    assert set(said[start + 1 : start + 5]) == {
        "  broken (its config.json, or a file next to it, is damaged (not JSON))",
        f"  other ({score + 0.1:.3f} on val; needs vit-mean, which the store does not have)",
        f"  worse ({score - 0.01:.3f} on val)",
        f"  folded ({score + 0.2:.3f} on fold 1/2)",
    }
    for name in ("expr", "worse"):
        shutil.rmtree(runs / name)
    result = call("submit", "--runs", runs, "--sample", sample, "--device", "cpu", "--out", "f.txt")
    assert result.stdout.splitlines()[-2].endswith(" videos, by folded (fold 1/2).")
    shutil.rmtree(runs / "folded")
    result = call("submit", "--runs", runs, "--sample", sample, "--device", "cpu", "--out", "g.txt")
    assert result.exit_code == 2 and "needs vit-mean, which the store does not have" in result.stderr


def test_an_ensemble_is_submitted_while_its_score_holds(
    call: Callable[..., Result], trained: Path, tiny_store: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(trained / "va", runs / "va")
    shutil.copytree(trained / "va", runs / "twin")
    for name in ("va", "twin"):
        assert call("eval", name, "--runs", runs, "--device", "cpu").exit_code == 0
    assert call("ensemble", "va", "twin", "--runs", runs, "--run", "both").exit_code == 0
    scores = json.loads((runs / "both/scores-val.json").read_text())
    scores["official"]["score"] += 0.05
    (runs / "both/scores-val.json").write_text(json.dumps(scores))
    sample = sample_of(tiny_store, "va", tmp_path / "sample.txt")
    result = call("submit", "--runs", runs, "--sample", sample, "--device", "cpu")
    assert result.stdout.startswith("both is taken: the best of task va, ")
    assert call("tune", "twin", "--runs", runs, "--fit-on", "train", "--device", "cpu").exit_code == 0
    result = call("submit", "--runs", runs, "--sample", sample, "--device", "cpu", "--out", "p.txt")
    assert "both is taken" not in result.stdout and "its runs have changed since it was scored" in result.stderr
    (runs / "both/predictions-val.h5").unlink()
    result = call("submit", "--runs", runs, "--sample", sample, "--device", "cpu", "--out", "q.txt")
    assert result.exit_code == 0 and "both has no predictions-val.h5" in result.stderr


def test_samples_that_do_not_fit(call: Callable[..., Result], trained: Path, tiny_store: Path, tmp_path: Path) -> None:
    sample = sample_of(tiny_store, "expr", tmp_path / "sample.txt")
    result = call("submit", "va", "--runs", trained, "--sample", sample, "--out", "p.txt")
    assert result.exit_code == 2 and "is a sample of task expr, but the run was trained for va" in result.stderr
    (tmp_path / "videos.txt").write_text("a\nb\n")
    result = call("submit", "--runs", trained, "--sample", "videos.txt")
    assert result.exit_code == 2 and "does not say what to predict. Name a run: abaw submit RUN" in result.stderr


def test_wrong_use_of_eval_with_predictions(call: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("frame,score\n")
    for words, said in (
        (("va", "--predictions", "p.txt"), "Score either a run or --predictions"),
        (("--predictions", "p.txt"), "does not begin with the header of a known task. Choose the task with --task."),
        (("--predictions", "p.txt", "--task", "vgaf"), "Task vgaf has no format for a submission file"),
        (("--task", "va"), "--task, --feature, --threshold and --keep are about --predictions"),
    ):
        result = call("eval", *words)
        assert result.exit_code == 2, result.output
        assert said in result.stderr
