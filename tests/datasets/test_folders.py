"""Archives as they unpack: where crops, videos and labels are found, what is not read, and two homes of one video."""

import csv
import io
import os
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from abaw.core.errors import DataError
from abaw.core.progress import Silent
from abaw.datasets.folders import find_folders, find_video_files
from abaw.datasets.layouts import open_dataset
from abaw.pipeline import ExtractOptions, doctor, extract
from abaw.store import FeatureStore

VA, EXPR = "valence,arousal", "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
AU = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def unread_of(root: Path) -> list[str]:
    return [warning for report in doctor(root) if report.kind == "unread" for warning in report.warnings]


@pytest.mark.parametrize(
    "place",
    ["cropped_aligned", "cropped_aligned_new_50_vids", "cropped_aligned_images/cropped_aligned", "Cropped-Aligned",
     "crops/cropped_aligned", "cropped_aligned_new_50_vids/cropped_aligned_new_50_vids", "raw/images"],
)  # fmt: skip
def test_homes_of_crops(place, make_crops, tmp_path):
    make_crops(tmp_path / "cropped_aligned" / "video1", 2)
    make_crops(tmp_path / place / "video96", 3)
    found = {video.name: video.path for video in open_dataset(tmp_path).videos}
    assert found == {"video1": tmp_path / "cropped_aligned" / "video1", "video96": tmp_path / place / "video96"}


@pytest.mark.parametrize(
    "place", ["batch1", "batch2", "new_vids", "videos", "Batch 1", "videos/batch2", "Aff-Wild2/batch1"]
)
@pytest.mark.parametrize("suffix", [".mp4", ".AVI"])
def test_homes_of_videos(place, suffix, make_data, tmp_path):
    root = make_data({"a": 1, "b_left": 1})
    touch(root, f"{place}/a{suffix}", f"{place}/b{suffix}", "videos/.b.mp4", "__MACOSX/videos/a.mp4")
    found = {video.name: video.file for video in open_dataset(root).videos}
    assert found == {"a": root / place / f"a{suffix}", "b_left": root / place / f"b{suffix}"}


@pytest.mark.parametrize(
    ("place", "suffix"),
    [
        ("VA_Estimation_Challenge/Train_Set", ".txt"),
        ("labels/VA_Estimation_Challenge/Train_Set", ".txt"),
        ("6th ABAW Annotations/VA_Estimation_Challenge/Train_Set", ".txt"),
        ("Third ABAW Annotations/VA_Estimation_Challenge/train_set", ".TXT"),
        ("whatever it is/va_estimation_challenge/Training_Set", ".Txt"),
        ("annotations/VA_Set/Train", ".txt"),
        ("5th_ABAW_Annotations/VA-Estimation-Challenge/TRAIN SET", ".txt"),
    ],
)
def test_homes_of_labels(place, suffix, make_data):
    root = make_data({"a": 2})
    touch(root, f"{place}/a{suffix}", f"{place}/._a{suffix}", f"{place}/.DS_Store", f"__MACOSX/{place}/a{suffix}")
    (root / place / f"a{suffix}").write_text(f"{VA}\n0.1,0.2\n0.3,0.4\n")
    (label,) = open_dataset(root).labels
    assert (label.task, label.split, label.video, label.path) == ("va", "train", "a", root / place / f"a{suffix}")
    assert not unread_of(root)


@pytest.mark.parametrize("split", ["Validation_Set", "validation_set", "Val_Set", "valid", "VALIDATION"])
@pytest.mark.parametrize(
    ("task", "folder"),
    [
        ("expr", "EXPR_Classification_Challenge"),
        ("expr", "EXPR_Recognition_Challenge"),
        ("au", "AU_Detection_Challenge"),
    ],
)
def test_names_of_challenges_and_splits(task, folder, split, make_data):
    root = make_data({"a": 2})
    touch(root, f"Annotations/{folder}/{split}/a.txt")
    (label,) = open_dataset(root).labels
    assert (label.task, label.split) == (task, "val")


@pytest.mark.parametrize(
    "place", ["", "labels/", "MTL_Challenge/", "7th ABAW Annotations/", "7th ABAW Annotations/MTL_Challenge/"]
)
@pytest.mark.parametrize("name", ["training_set_annotations.txt", "Training_Set_Annotations.TXT", "train_set.txt"])
def test_homes_of_annotation_files(place, name, make_data):
    root = make_data({"a": 2})
    touch(root, f"{place}{name}")
    (root / f"{place}{name}").write_text(f"image,valence,arousal,expression,aus\na/00002.jpg,0,0,1{',0' * 12}\n")
    (label,) = open_dataset(root).labels
    assert (label.task, label.split, label.read().shape) == ("mtl", "train", (2, 15))
    assert not unread_of(root)


def test_a_feature_store_is_not_looked_into(make_data, tmp_path):
    root = make_data({"a": 2})
    FeatureStore.create(root / "store.zarr")
    touch(root, "store.zarr/labels/x", "store.zarr/videos/a.mp4")
    assert open_dataset(root).videos[0].file is None and not unread_of(root)
    assert find_folders(root).mtl == [root] and not find_folders(root).videos


def test_two_homes_of_crops_are_an_error_that_names_both(make_crops, tmp_path):
    first, second = (tmp_path / place / "a" for place in ("cropped_aligned", "cropped_aligned_new_50_vids"))
    make_crops(first, 2)
    second.mkdir(parents=True)
    assert open_dataset(tmp_path).videos[0].path == first  # there is nothing in the other
    make_crops(second, 3)
    with pytest.raises(DataError) as caught:
        open_dataset(tmp_path)
    assert str(first) in str(caught.value) and str(second) in str(caught.value)
    shutil.rmtree(second)
    second.symlink_to(first)
    assert open_dataset(tmp_path).videos[0].path == first


def test_two_homes_of_a_video_file(make_data, numbered, run_cli):
    root = make_data({"a": 2})
    one = numbered.write(root / "batch1" / "a.mp4", n_frames=4)
    other = root / "new_vids" / "a.mp4"
    other.parent.mkdir()
    shutil.copyfile(one, other)  # a copy is the same video
    assert find_video_files(root)["a"] == one
    numbered.write(other, n_frames=5)
    for command in (("doctor",), ("extract", "--backbone", "hog", "--store", root / "store.zarr")):
        result = run_cli(*command, "--data", root)
        assert result.exit_code == 1 and str(one) in result.output and str(other) in result.output
    assert not (root / "store.zarr").exists()


def test_composed_and_decomposed_names_are_one(make_crops, numbered, tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Zoë_é") for form in ("NFC", "NFD"))
    make_crops(tmp_path / "cropped_aligned" / decomposed, 3)
    numbered.write(tmp_path / "videos" / f"{composed}.mp4", n_frames=3)
    touch(tmp_path, f"VA_Estimation_Challenge/Train_Set/{decomposed}.txt")
    (tmp_path / "VA_Estimation_Challenge/Train_Set" / f"{decomposed}.txt").write_text(f"{VA}\n" + "0.5,0.5\n" * 3)
    summary = extract(ExtractOptions(tmp_path, tmp_path / "store.zarr", ("hog",), device="cpu"))
    assert summary.ok and summary.done == [composed] and not summary.warnings
    store = FeatureStore.open(tmp_path / "store.zarr")
    assert list(store.videos("hog")) == store.label_names("va") == [composed]
    make_crops(tmp_path / "cropped_aligned" / composed, 3)
    with pytest.raises(DataError, match="has crops in"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    "name", ["_0efYOjQYRc", "-3g5yACwYnA", "-rf", "=cmd", "CON", "می\u200cخواهم", "x" * 255, "é" * 127]
)
def test_names_that_are_stored(name, make_data, run_cli, tmp_path):
    root = make_data({name: 2})
    assert run_cli("extract", "--data", root, "--store", tmp_path / "s.zarr", "--backbone", "hog").exit_code == 0
    assert FeatureStore.open(tmp_path / "s.zarr").read("hog", name).present.all()


@pytest.mark.parametrize("name", ["__init", "a\nb", "a\x1b[31m", "a\u202eb", "a\u200bb", "a\udcff"])
def test_names_that_cannot_be_stored_fail_before_any_work(name, make_data, tmp_path):
    root = make_data({name: 2, "good": 2})
    summary = extract(ExtractOptions(root, tmp_path / "s.zarr", ("hog",), device="cpu"))
    assert list(summary.failed) == [name] and summary.done == ["good"] and summary.n_frames == 2
    assert "cannot be the name of a video" in summary.failed[name]


def test_what_is_not_read_is_told_with_the_reason(make_data, numbered, run_cli):
    root = make_data({"a": 2})
    numbered.write(root / "new_vids/a.mp4", n_frames=2)
    touch(
        root,
        *("new_vids/b.rm", "new_vids/c.rm", "new_vids/d.mp4", "batch3.zip", "notes.pdf", "old pictures/a/00001.jpg"),
        *(
            "audio/a.wav.part",
            "audio/z.wav",
            "audio/a.wav",
            "audio/a.mp3",
            "VA_Estimation_Challenge/Test_Set/x.txt",
            "VA_Estimation_Challenge/Extra/x.txt",
        ),
        *(
            "VA_Estimation_Challenge/Train_Set/a.docx",
            "cropped_aligned/list.txt",
            "Thumbs.db",
            ".DS_Store",
            "__MACOSX/a/1.jpg",
        ),
    )
    (root / "VA_Estimation_Challenge/Train_Set/a.txt").write_text(f"{VA}\n0,0\n0,0\n")
    (root / "train.csv").write_text("main_idx,vn,frame_idx,img_path,valence,arousal\n0,a,0,a/00001.jpg,0,0\n")
    assert set(unread_of(root)) == {
        "train.csv: a table of labels, which is read if it is train.csv or val.csv and there is no "
        "VA_Estimation_Challenge/Train_Set/<video>.txt",
        "new_vids/b.rm, new_vids/c.rm (2): files that end in .rm are not read here: convert to .mp4",
        "new_vids/d.mp4: this video has no crops: make them with `abaw prepare`",
        "batch3.zip: an archive, which is not opened: unpack it",
        "notes.pdf: not a known file name",
        "old pictures: not a known folder name",
        "audio/a.wav.part: files that end in .part are not read here: convert to .wav",
        "audio/z.wav: the dataset has no such video",
        "audio/a.mp3: another sound file of this video is read",
        "VA_Estimation_Challenge/Test_Set: labels of test sets are not read",
        "VA_Estimation_Challenge/Extra: not the folder of a split, such as Train_Set or Validation_Set",
        "VA_Estimation_Challenge/Train_Set/a.docx: label files end in .txt",
        "cropped_aligned/list.txt: not a known file name",
    }
    result = run_cli("doctor", "--data", root)
    assert result.exit_code == 0
    assert result.output.count("Not read: ") == 13 and "1 videos, 2 frames" in result.output


@pytest.mark.parametrize(
    ("folder", "header", "row", "edition"),
    [
        ("EXPR_Set", EXPR.removesuffix(",Other"), "3", "the 1st and 2nd ABAW competition (2020, 2021)"),
        ("AU_Set", "AU1,AU2,AU4,AU6,AU12,AU15,AU20,AU25", "0,0,1,0,0,0,0,0", "the 1st ABAW competition (2020)"),
    ],
)
def test_labels_of_another_edition_are_named_as_such(folder, header, row, edition, make_data):
    root = make_data({"a": 1})
    touch(root, f"2nd/{folder}/Train_Set/a.txt")
    (root / f"2nd/{folder}/Train_Set/a.txt").write_text(f"{header}\n{row}\n")
    (error,) = [error for report in doctor(root) for error in report.errors]
    assert f"a.txt line 1: this is the header of {edition}" in error


class Told(Silent):
    """Keeps the sentences."""

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def warn(self, sentence: str) -> None:
        if "abel files" in sentence:
            self.sentences.append(sentence)


def test_extract_says_which_labels_it_found(make_data, tmp_path):
    root = make_data({"a": 1, "b": 1})
    options = ExtractOptions(root, tmp_path / "s.zarr", ("hog",), device="cpu")
    told = Told()
    extract(options, told)
    assert told.sentences[0].startswith(f"No label files were found in {root}")
    for place, header, row in (
        ("x/VA_Set/Train_Set/a", VA, "0,0"),
        ("x/VA_Set/Val/b", VA, "0,0"),
        ("AU_Set/Val/b", AU, "0" + ",0" * 11),
    ):
        touch(root, f"{place}.txt")
        (root / f"{place}.txt").write_text(f"{header}\n{row}\n")
    rows = "".join(f"{video}/00001.jpg,0,0,1{',0' * 12}\n" for video in "ab")
    (root / "train_set.txt").write_text(f"image,valence,arousal,expression,aus\n{rows}")
    told = Told()
    assert extract(options, told).ok
    assert told.sentences == [f"Label files in {root}: au val 1, va train 1, va val 1, mtl train 1 of 2 videos."] or (
        told.sentences == [f"Label files in {root}: va train 1, va val 1, au val 1, mtl train 1 of 2 videos."]
    )


def test_totals_come_first_then_what_needs_attention(make_data, numbered, run_cli, tmp_path):
    root = make_data({f"v{number}": 3 for number in range(9)} | {"=odd": [1, 3]})
    for number in range(9):
        numbered.write(root / "videos" / f"v{number}.mp4", n_frames=3)
    (root / "cropped_aligned/=odd/00003.jpg").write_bytes(b"no")
    lines = run_cli("doctor", "--data", root).stdout.splitlines()
    assert lines[0].startswith(f"{root}: 10 videos, 30 frames, 29 crops, 1 missing")
    shown = "\n".join(lines)
    assert "odd" in shown and "v3" not in shown and "9 more are as they should be" in shown
    everything = run_cli("doctor", "--data", root, "--all").output
    assert all(f" v{number} " in everything for number in range(9))
    table = list(csv.DictReader(io.StringIO(run_cli("doctor", "--data", root, "--csv").stdout)))
    assert len(table) == 10 and table[0]["video"] == "'=odd" and "00003.jpg" in table[0]["errors"]
    assert (table[1]["video"], table[1]["n_frames"], table[1]["fps"]) == ("v0", "3", "30.0")


def test_what_many_videos_share_is_said_once(make_data, run_cli):
    output = run_cli("doctor", "--data", make_data({f"v{number}": 2 for number in range(8)})).output
    assert output.count("no video file: 30 fps assumed") == 1 and "8 videos (v0, v1, v2 and 5 more)" in output


def test_a_label_file_of_millions_of_rows_for_one_frame(make_data, run_cli):
    root = make_data({"a": 1, "b": 1})
    touch(root, "VA_Set/Train/a.txt", "VA_Set/Train/b.txt")
    (root / "VA_Set/Train/a.txt").write_text(f"{VA}\n" + "0,0\n" * 1_000_000)
    (root / "VA_Set/Train/b.txt").write_text(f"{VA}\n0,0\n0,0\n")
    (a, b) = [report for report in doctor(root) if report.kind == "video"]
    assert any(
        "a.txt has 1,000,000 rows for 1 frames: does it belong to this video?" in warning for warning in a.warnings
    )
    assert not any("rows" in warning for warning in b.warnings)


def test_another_recording_is_no_second_person(make_data, numbered, tmp_path):
    root = make_data({"video10": 4, "video10_1": 4, "talk_2024": 4, "talk_left": 4})
    sound = np.sin(np.arange(16000) / 5).astype(np.float32)
    for name in ("video10", "talk"):
        numbered.write(root / "videos" / f"{name}.mp4", n_frames=8, sound=sound)
    summary = extract(ExtractOptions(root, tmp_path / "s.zarr", ("spectrogram",), device="cpu"))
    assert sorted(summary.without_sound) == ["talk_2024", "video10_1"]
    assert any(warning.startswith("video10_1: no video file") for warning in summary.warnings)
    store = FeatureStore.open(tmp_path / "s.zarr").videos("spectrogram")
    assert {name: attrs["n_frames"] for name, attrs in store.items()} == {
        "video10": 8, "talk_left": 8, "video10_1": 4, "talk_2024": 4,
    }  # fmt: skip


def test_labels_of_two_editions_are_both_left_out(make_data, tmp_path):
    root = make_data({"a": 1})
    for home, value in (("6th ABAW Annotations", "0.1"), ("Third ABAW Annotations", "0.9")):
        touch(root, f"{home}/VA_Set/Train/a.txt")
        (root / f"{home}/VA_Set/Train/a.txt").write_text(f"{VA}\n{value},{value}\n")
    summary = extract(ExtractOptions(root, tmp_path / "s.zarr", ("hog",), device="cpu"))
    (error,) = summary.label_errors
    assert "6th ABAW" in error and "Third ABAW" in error and "until then neither counts" in error
    assert FeatureStore.open(tmp_path / "s.zarr").label_names("va") == []


def test_a_link_in_a_circle_hides_nothing_else(make_data, tmp_path):
    root = make_data({"a": 2})
    for place in (root, root / "cropped_aligned", root / "videos"):
        place.mkdir(exist_ok=True)
        (place / "loop.mp4").symlink_to(place / "loop.mp4")
    assert [video.name for video in open_dataset(root).videos] == ["a"]
    assert len([warning for warning in unread_of(root) if "loop.mp4: a broken link" in warning]) >= 2


@pytest.mark.parametrize("place", ["cropped_aligned", "videos", "VA_Set/Train", "cropped_aligned/a"])
def test_folders_that_may_not_be_entered_are_named(place, make_data, numbered, monkeypatch, run_cli):
    root = make_data({"a": 2, "b": 2})
    touch(root, "VA_Set/Train/a.txt")
    numbered.write(root / "videos/a.mp4", n_frames=2)
    scandir, listdir = os.scandir, os.listdir

    def refuse(path: object) -> None:  # as the system does, for whom is not root
        if Path(str(path)) == root / place:
            raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", lambda path=".": refuse(path) or scandir(path))
    monkeypatch.setattr(os, "listdir", lambda path=".": refuse(path) or listdir(path))
    result = run_cli("doctor", "--data", root)
    assert result.exit_code == 1 and f"{root / place} cannot be read (Permission denied)" in result.output


def test_a_copy_is_told_as_one_and_folders_too_deep_with_a_hint(make_data, numbered):
    root = make_data({"a": 2})
    one = numbered.write(root / "batch1/a.mp4", n_frames=2)
    (root / "videos").mkdir()
    shutil.copyfile(one, root / "videos/a.mp4")
    touch(root, "x/y/VA_Estimation_Challenge/Train_Set/a.txt", "z/b.txt")
    assert set(unread_of(root)) == {
        "videos/a.mp4: an identical file of the same video is read instead",
        "x: not a known folder name; it contains y/VA_Estimation_Challenge: move that up",
        "z: not a known folder name",
    }


def test_all_that_is_not_read_is_in_the_full_lists(make_data, run_cli):
    root = make_data({"a": 2})
    touch(root, *(f"{number}.pdf" for number in range(6)))
    assert "0.pdf, 1.pdf, 2.pdf and 3 more (6)" in run_cli("doctor", "--data", root).stdout
    assert all(f"  {number}.pdf" in run_cli("doctor", "--data", root, "--all").stdout for number in range(6))
    table = list(csv.DictReader(io.StringIO(run_cli("doctor", "--data", root, "--csv").stdout)))
    assert [row["video"] for row in table if row["kind"] == "unread"] == [f"{number}.pdf" for number in range(6)]
    shutil.rmtree(root / "cropped_aligned")
    result = run_cli("doctor", "--data", root)
    assert result.exit_code == 1 and "Not read: 0.pdf" in result.output


def test_pictures_that_are_not_aligned_count_where_no_others_are(make_crops, tmp_path):
    make_crops(tmp_path / "cropped_aligned" / "a", 2)
    make_crops(tmp_path / "raw" / "images" / "a", 3)
    make_crops(tmp_path / "raw" / "images" / "b", 3)
    (tmp_path / "cropped_aligned" / "c").mkdir()
    make_crops(tmp_path / "raw" / "images" / "c", 3)
    found = {video.name: video.path.parent.name for video in open_dataset(tmp_path).videos}
    assert found == {"a": "cropped_aligned", "b": "images", "c": "images"}


def test_a_decomposed_name_of_a_video_file(make_crops, numbered, tmp_path):
    composed, decomposed = (unicodedata.normalize(form, "Zoë") for form in ("NFC", "NFD"))
    make_crops(tmp_path / "cropped_aligned" / composed, 3)
    file = numbered.write(tmp_path / "videos" / f"{decomposed}.mp4", n_frames=3)
    assert open_dataset(tmp_path).videos[0].file == file
