"""Data against labels: counts per video and in total, errors, the left/right report, and the command."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from abaw.core.tasks import TASKS
from abaw.datasets.doctor import VideoReport, left_right_pairs
from abaw.pipeline import doctor
from abaw.store import FeatureStore

TRAIN, VAL = "VA_Estimation_Challenge/Train_Set", "VA_Estimation_Challenge/Validation_Set"
EXPR_HEADER = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
EXPR_OLD, EXPR_NEW = "EXPR_Classification_Challenge/Train_Set", "EXPR_Recognition_Challenge/Train_Set"
VA_HEADER = "valence,arousal"


@pytest.fixture
def va_labels(make_labels: Callable[..., Path]) -> Callable[..., Path]:
    """Writes `n_rows` valid rows of valence and arousal."""

    def write(root: Path, video: str, n_rows: int, folder: str = TRAIN) -> Path:
        return make_labels(root, folder, video, VA_HEADER, *["0.5,-1"] * n_rows)

    return write


def report_on(root: Path, video: str) -> VideoReport:
    return next(report for report in doctor(root) if report.video == video)


def test_a_video_without_fault(make_data, va_labels):
    root = make_data({"a": 6})
    va_labels(root, "a", 6, VAL)
    report = report_on(root, "a")
    assert (report.split, report.n_frames, report.n_crops, report.n_missing, report.n_runs) == ("val", 6, 6, 0, 0)
    assert (report.extra_rows, report.n_labels_without_crop, report.n_crops_without_label) == (
        {"va": 0}, {"va": 0}, {"va": 0}
    )  # fmt: skip
    assert report.errors == ()


@pytest.mark.parametrize(
    ("frames", "n_missing", "n_runs"),
    [([3, 4, 7, 10], 6, 3), ([1, 2, 4], 1, 1), ([5], 4, 1), ([2, 4, 6], 3, 3)],
)
def test_missing_crops_and_their_runs(make_data, frames, n_missing, n_runs):
    report = report_on(make_data({"a": frames}), "a")
    assert (report.n_frames, report.n_crops) == (frames[-1], len(frames))
    assert (report.n_missing, report.n_runs) == (n_missing, n_runs)


def test_frames_after_the_last_crop_are_missing_too(sample):
    report = report_on(sample, "face_noface")
    assert (report.n_frames, report.n_crops, report.n_missing, report.n_runs) == (169, 72, 97, 1)
    assert report_on(sample, "single_face").n_missing == 0


@pytest.mark.parametrize(
    ("n_rows", "extra", "no_crop", "no_label"), [(7, 1, 3, 0), (6, 0, 2, 0), (5, -1, 2, 1), (2, -4, 1, 3), (9, 3, 5, 0)]
)
def test_rows_more_and_fewer_than_frames(make_data, va_labels, n_rows, extra, no_crop, no_label):
    root = make_data({"a": [1, 3, 5, 6]})  # 2 and 4 have no crop
    va_labels(root, "a", n_rows)
    report = report_on(root, "a")
    assert report.extra_rows == {"va": extra}
    assert report.n_labels_without_crop == {"va": no_crop}
    assert report.n_crops_without_label == {"va": no_label}
    assert report.errors == ()


def test_tasks_are_counted_one_by_one(make_data, va_labels, make_labels):
    root = make_data({"a": 4, "b": 2})
    va_labels(root, "a", 5)
    make_labels(root, EXPR_NEW, "a", EXPR_HEADER, "1", "2")
    assert report_on(root, "a").extra_rows == {"va": 1, "expr": -2}
    assert report_on(root, "b").extra_rows == {}
    assert report_on(root, "b").split == ""


def test_unreadable_images_are_named(make_data):
    root = make_data({"a": 5})
    folder = root / "cropped_aligned/a"
    (folder / "00002.jpg").write_text("a text file")
    (folder / "00003.jpg").write_bytes((folder / "00003.jpg").read_bytes()[:400])
    (folder / "00004.jpg").write_bytes(b"")
    report = report_on(root, "a")
    assert len(report.errors) == 3
    for error, name in zip(report.errors, ("00002.jpg", "00003.jpg", "00004.jpg"), strict=True):
        assert f"a/{name}" in error and "Replace or delete it" in error
    assert report.n_crops == 5


def test_videos_that_are_only_in_the_labels(make_data, va_labels):
    root = make_data({"a": 2})
    va_labels(root, "ghost", 3, VAL)
    report = report_on(root, "ghost")
    assert (report.n_frames, report.n_crops, report.split) == (0, 0, "val")
    assert len(report.errors) == 1
    assert "ghost.txt labels a video without crops" in report.errors[0]


def test_a_video_without_crops_and_files_that_are_none(make_data):
    root = make_data({"a": 2, "b": 2})
    for file in (root / "cropped_aligned/b").iterdir():
        file.unlink()
    (root / "cropped_aligned/a/notes.txt").write_text("x")
    assert "no crop at all" in report_on(root, "b").warnings
    assert any("1 files are not crops, such as notes.txt" in warning for warning in report_on(root, "a").warnings)


def test_a_label_error_leaves_the_other_counts(make_data, va_labels, make_labels):
    root = make_data({"a": 3, "b": 3})
    va_labels(root, "a", 3)
    make_labels(root, TRAIN, "b", "0.5,0.5", "0.5,0.5")
    make_labels(root, EXPR_NEW, "b", EXPR_HEADER, "1", "9", "2")
    assert report_on(root, "a").errors == ()
    errors = report_on(root, "b").errors
    assert len(errors) == 2
    assert "b.txt line 1: the header should be 'valence,arousal'" in errors[0]
    assert "b.txt line 3: expression should be 0 to 7" in errors[1]
    assert report_on(root, "b").n_crops == 3


def test_a_video_labelled_twice_for_one_task(make_data, va_labels, make_labels):
    root = make_data({"a": 3, "b": 3})
    va_labels(root, "a", 3, TRAIN)
    va_labels(root, "a", 3, VAL)
    make_labels(root, EXPR_NEW, "b", EXPR_HEADER, "1")
    make_labels(root, EXPR_OLD, "b", EXPR_HEADER, "1")
    for video in "ab":
        (error,) = report_on(root, video).errors
        assert f"also labels: {video}." in error and "Delete its labels in one of them" in error
    assert report_on(root, "a").split == "train+val"


def test_pairs_of_two_people_in_one_video():
    names = ["a_left", "a_right", "b", "b_right", "c_left", "d_right", "e", "e_left", "f", "f_left", "f_right"]
    pairs = left_right_pairs([VideoReport(name) for name in names])
    assert pairs == [("a_left", "a_right"), ("b", "b_right"), ("f_left", "f_right")]


def test_the_command_tells_counts_per_video_and_in_total(make_data, va_labels, run_cli):
    root = make_data({"a_left": [1, 2, 5, 6], "a_right": 6, "b": 3})
    va_labels(root, "a_left", 7)
    va_labels(root, "a_right", 5)
    result = run_cli("doctor", "--data", root, "--json")
    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert found["total"] == {
        "videos": 3, "frames": 15, "crops": 13, "missing": 2, "errors": 0, "left_right_pairs": [["a_left", "a_right"]],
        "labels": {"va": {"videos": 2, "labelled_rows": {"train": 12}, "extra_rows": 1, "missing_rows": 1, "labels_without_crop": 3,
                          "crops_without_label": 1}},
        "people": 0,
    }  # fmt: skip
    by_video = {video["video"]: video for video in found["per_video"]}
    assert by_video["a_left"]["n_runs"] == 1 and by_video["a_left"]["n_labels_without_crop"] == {"va": 3}
    assert "30 fps assumed" in by_video["b"]["warnings"][0]


def test_the_command_in_words(make_data, va_labels, run_cli):
    root = make_data({"a_left": [1, 2, 5, 6], "a_right": 6})
    va_labels(root, "a_left", 7)
    result = run_cli("doctor", "--data", root, "--fps", 25)
    assert result.exit_code == 0
    assert "2 videos, 12 frames, 10 crops, 2 missing, 1 left/right pairs." in result.stdout
    assert "va: 1 label files; 7 labelled rows (7 train); 1 rows more and 0 fewer" in result.stdout
    assert "3 rows without a crop, 0 crops without a row" in result.stdout
    assert "25.00" in result.stdout


def test_errors_are_printed_and_make_the_exit_code_1(make_data, va_labels, run_cli):
    root = make_data({"a": 2})
    va_labels(root, "ghost", 3)
    (root / "cropped_aligned/a/00002.jpg").write_text("text")
    result = run_cli("doctor", "--data", root)
    assert result.exit_code == 1
    assert "2 errors:" in result.stderr
    assert "00002.jpg is not an image" in result.stderr and "ghost.txt labels a video" in result.stderr
    result = run_cli("doctor", "--data", root, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["total"]["errors"] == 2


def test_sample_has_no_labels_and_no_errors(sample, run_cli):
    result = run_cli("doctor", "--data", sample)
    assert result.exit_code == 0
    assert "No labels: `abaw extract` works, `abaw train` does not." in result.stdout
    assert "97 missing" in result.stdout


def test_the_demo_is_sound_but_for_its_quirks(tiny_demo, tiny_store, run_cli):
    result = run_cli("doctor", "--data", tiny_demo, "--json")
    total = json.loads(result.stdout)["total"]
    assert result.exit_code == 0
    assert (total["videos"], total["errors"], len(total["left_right_pairs"])) == (7, 0, 1)
    assert total["crops"] == len(list((tiny_demo / "cropped_aligned").glob("*/*.jpg")))
    assert total["labels"]["va"]["extra_rows"] == 6 and total["labels"]["va"]["missing_rows"] == 1
    assert total["labels"]["va"]["labels_without_crop"] > total["missing"] - 5
    for task, counts in total["labels"].items():  # the rows that `abaw eval` scores
        labelled = {"train": 0, "val": 0}
        for video in FeatureStore.open(tiny_store).labels(task).values():
            rows = np.concatenate([video.rows, video.doubles.labels]) if video.doubles else video.rows
            labelled[video.split] += int((rows != np.array(TASKS[task].invalid_row)).any(axis=1).sum())
        assert counts["labelled_rows"] == labelled


def test_label_files_that_are_broken_are_counted_as_label_files(make_data, make_labels, run_cli, tmp_path):
    root = make_data({"a": 2})
    make_labels(root, TRAIN, "a", VA_HEADER, "0,0", "9,9")
    result = run_cli("doctor", "--data", root)
    assert result.exit_code == 1
    assert "a.txt line 3: valence should be -1 to 1" in result.stderr
    assert "No labels" not in result.stdout
    shutil.rmtree(root / "VA_Estimation_Challenge")
    assert "No labels" in run_cli("doctor", "--data", root).stdout


def test_a_crop_of_number_0_is_an_error(make_data, make_crops, run_cli):
    root = make_data({"a": 3, "b": 2})
    make_crops(root / "cropped_aligned/a", [0])
    (error,) = report_on(root, "a").errors
    assert "a/00000.jpg has the frame number 0; frames are numbered from 1" in error and "Correct the numbers" in error
    assert report_on(root, "b").errors == ()
    assert run_cli("doctor", "--data", root).exit_code == 1


@pytest.mark.parametrize(
    ("n_frames", "n_rows", "found"),
    [
        (20, 22, ""),
        (20, 18, ""),
        (20, 23, "3 label rows more than frames (va): is a.mp4 the right video?"),
        (20, 17, "3 label rows fewer than frames (va): is a.mp4 the right video?"),
        (400, 396, ""),
        (400, 395, "5 label rows fewer than frames (va): is a.mp4 the right video?"),
    ],
)
def test_labels_of_another_length_than_the_video_file_are_told(
    make_data, va_labels, numbered, run_cli, n_frames, n_rows, found
):
    root = make_data({"a": 4, "b": 4})  # b has no video file: its last frames may have no crop
    numbered.write(root / "videos/a.mp4", n_frames)
    va_labels(root, "a", n_rows)
    va_labels(root, "b", 40)
    assert report_on(root, "a").warnings == ((found,) if found else ())
    assert not any("label rows" in warning for warning in report_on(root, "b").warnings)
    assert run_cli("doctor", "--data", root).exit_code == 0


def test_tasks_that_differ_alike_share_a_sentence(make_data, va_labels, make_labels, numbered):
    root = make_data({"a": 4})
    numbered.write(root / "videos/a.mp4", 10)
    va_labels(root, "a", 6)
    make_labels(root, EXPR_NEW, "a", EXPR_HEADER, *["1"] * 6)
    assert report_on(root, "a").warnings == ("4 label rows fewer than frames (expr, va): is a.mp4 the right video?",)


def test_crops_after_the_end_of_the_video_file_are_told(make_data, numbered):
    root = make_data({"a": 14})
    numbered.write(root / "videos/a.mp4", 10)
    report = report_on(root, "a")
    assert report.warnings == ("crops continue for 4 frames after the end of a.mp4: is it the right video?",)
    assert (report.n_frames, report.errors) == (14, ())


def test_only_differences_of_one_are_called_normal(make_data, va_labels, run_cli, numbered):
    root = make_data({"0": 3, "a": 3, "b": 3})
    va_labels(root, "a", 3)
    assert "0 rows more and 0 fewer than frames (normal);" in run_cli("doctor", "--data", root).stdout
    va_labels(root, "a", 4)
    va_labels(root, "b", 2)
    assert "1 rows more and 1 fewer than frames (normal);" in run_cli("doctor", "--data", root).stdout
    va_labels(root, "b", 1)
    said = run_cli("doctor", "--data", root).stdout
    assert "1 rows more and 2 fewer than frames (normal);" in said, "without a file nobody knows the number of frames"
    numbered.write(root / "videos/b.mp4", n_frames=3)
    words = "1 rows more and 2 fewer than frames (one in a video is normal; b has 2);"
    assert words in run_cli("doctor", "--data", root).stdout


def test_a_folder_of_folders_is_no_video(make_data, run_cli):
    root = make_data({"a": 2, "b": 2})
    (root / "cropped_aligned/a/.thumbnails").mkdir()
    (root / "cropped_aligned/a/more").mkdir()
    assert report_on(root, "a").errors == ()  # it has crops
    crops = root / "cropped_aligned"
    crops.rename(root / "inner")
    crops.mkdir()
    (root / "inner").rename(crops / "batch_a")
    (crops / "empty/.thumbnails").mkdir(parents=True)
    (error,) = report_on(root, "batch_a").errors
    assert error == f"{crops / 'batch_a'} has folders instead of crops, such as a. Move them up one level."
    assert (report_on(root, "empty").errors, "no crop at all" in report_on(root, "empty").warnings) == ((), True)
    assert run_cli("doctor", "--data", root).exit_code == 1
