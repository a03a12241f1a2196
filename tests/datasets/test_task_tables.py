"""Labels in tables of task files, and the layouts of the tasks of 2026; expected values are written by hand."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from abaw.core.errors import DataError
from abaw.core.tasks import TASKS, get_task
from abaw.datasets.bah import read_split
from abaw.datasets.dataset import Dataset
from abaw.datasets.doctor import examine, report_unread, totals
from abaw.datasets.frames import WHOLE
from abaw.datasets.layouts import look_through, open_dataset
from abaw.datasets.media_search import name_of_video
from abaw.tests.support.paths import DATA

TASK = """
name = "mine"
level = "{level}"
kind = "{kind}"
outputs = {outputs}
measure = "{measure}"
{more}
"""


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test adds is forgotten."""
    monkeypatch.setattr(TASKS, "_added", {})
    monkeypatch.setattr(TASKS, "_files", {})


def add_task(folder: Path, level: str, kind: str, outputs: str, measure: str, more: str = "") -> None:
    path = folder / "mine.toml"
    path.write_text(TASK.format(level=level, kind=kind, outputs=outputs, measure=measure, more=more))
    get_task(str(path))


def write_images(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (8, 8)).save(folder / name)


def labels_of(dataset: Dataset) -> dict[str, tuple[str, str, list[list[float]]]]:
    return {label.video: (label.task, label.split, label.read().tolist()) for label in dataset.labels}


def errors_of(root: Path) -> list[str]:
    return [remark.sentence for remark in open_dataset(root).remarks if remark.is_error]


def test_frames_of_crops_in_the_official_layout(tmp_path: Path, make_data: Callable[..., Path]) -> None:
    root = make_data({"a": 3, "b_left": 2})
    add_task(
        *(tmp_path, "frame", "multi-label", '["smile", "frown"]', "macro-f1"),
        '[labels]\ntable = "labels.csv"\nclip = "video"\nperson = "who"\ntarget = ["s", "f"]',
    )
    (root / "labels.csv").write_text(
        'video,frame,s,note,f,split,who\na,3,1,"x, y",0,Training,p1\na,1,0,,nan,Training,p1\nb_left.mp4,2,,,1,val,p2\n'
    )
    dataset = open_dataset(root)
    assert labels_of(dataset) == {
        "a": ("mine", "train", [[0, -1], [-1, -1], [1, 0]]),
        "b_left": ("mine", "val", [[-1, -1], [-1, 1]]),
    }
    assert sorted(video.name for video in dataset.videos) == ["a", "b_left"]
    assert {label.video: label.person for label in dataset.labels} == {"a": "p1", "b_left": "p2"}  # type: ignore[attr-defined]
    assert dataset.labels[0].read().dtype == np.int8
    (report,) = [one for one in examine(dataset) if one.video == "a"]
    assert report.n_labelled_rows == {"mine": 2} and not report.errors


def test_classes_by_name_or_number_from_1(tmp_path: Path, make_data: Callable[..., Path]) -> None:
    root = make_data({"a": 2, "b": 2, "c": 2})
    add_task(
        *(tmp_path, "clip", "classes", '["Calm", "Tense"]', "weighted-f1"),
        '[labels]\ntrain = "train.csv"\nval = "val.csv"\ntarget = ["mood"]\nfirst = 1',
    )
    (root / "train.csv").write_text("clip,mood\nx/a.mp4,tense\nb,1\n")
    (root / "val.csv").write_text("clip,mood\nc,2\n")
    assert labels_of(open_dataset(root)) == {
        "a": ("mine", "train", [[1]]),
        "b": ("mine", "train", [[0]]),
        "c": ("mine", "val", [[1]]),
    }
    (root / "val.csv").write_text("clip,mood\nc,0\n")
    assert errors_of(root)[0].endswith(
        "val.csv line 2: label should be 1 to 2, or -1 if not annotated, found '0'. Correct the line."
    )


def test_a_class_may_be_called_none_and_videos_to_predict_need_no_label(
    tmp_path: Path, make_data: Callable[..., Path]
) -> None:
    root = tmp_path / "data"
    for video in ("a", "b", "to-predict"):
        write_images(root / "pictures" / video, "00001.jpg", "00002.jpg")
    add_task(
        *(tmp_path, "frame", "classes", '["None", "Slight"]', "macro-f1"),
        '[labels]\ntable = "t.csv"\ntarget = ["mood"]',
    )
    (root / "t.csv").write_text("clip,frame,split,mood\na,1,train,none\na,2,train,\nb,2,val,slight\n")
    dataset = open_dataset(root)
    assert labels_of(dataset) == {"a": ("mine", "train", [[0], [-1]]), "b": ("mine", "val", [[-1], [1]])}
    assert [video.name for video in dataset.videos] == ["a", "b", "to-predict"]


def test_images_by_path_with_a_folder_to_predict(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_images(root / "set1", "b2.png", "b10.png", "x.png")
    write_images(root / "test", "q.png")
    add_task(*(tmp_path, "image", "classes", '["no", "yes"]', "accuracy"), '[labels]\ntable = "t.csv"\nclip = "image"')
    (root / "t.csv").write_text("image,label,split\nset1/b10.png,1,train\nset1/b2.png,0,train\n")
    dataset = open_dataset(root)
    assert labels_of(dataset) == {"set1": ("mine", "train", [[0], [1]])}  # in natural order of the names
    assert [video.name for video in dataset.videos] == ["set1", "test"]
    (root / "t.csv").write_text("image,label,split\n../b.png,1,train\n")
    assert "an image is written folder/name.jpg, relative to the data folder, found '../b.png'" in errors_of(root)[0]


def test_images_of_a_folder_go_to_splits_and_people(tmp_path: Path) -> None:
    """A folder with images of both splits and of several people is a video for each; images without a label stay out."""
    root = tmp_path / "data"
    write_images(root / "set", "b2.png", "b10.png", "b1.png", "c.png", "unlabelled.png")
    add_task(
        *(tmp_path, "image", "classes", '["no", "yes"]', "accuracy"),
        '[labels]\ntable = "t.csv"\nclip = "image"\nperson = "who"',
    )
    rows = "set/b10.png,1,train,x\nset/b2.png,0,train,x\nset/b1.png,1,train,y/z\nset/c.png,0,val,x\n"
    (root / "t.csv").write_text("image,label,split,who\n" + rows)
    dataset = open_dataset(root)
    assert labels_of(dataset) == {
        "set-train-x": ("mine", "train", [[0], [1]]),
        "set-train-y-z": ("mine", "train", [[1]]),
        "set-val-x": ("mine", "val", [[0]]),
    }
    assert [dataset.person_of(label) for label in dataset.labels] == ["x", "y/z", "x"]
    frames = dataset.open(dataset.videos[0])
    assert [frames.file_of(row).name for row in (0, 1)] == ["b2.png", "b10.png"] and frames.size() == 2
    content, digest = frames.content(), frames.digest()
    Image.new("RGB", (9, 9)).save(root / "set" / "c.png")
    same = dataset.open(dataset.videos[0])
    assert same.digest() == digest and same.has_content(content), "another image of the folder"
    Image.new("RGB", (64, 64), "red").save(root / "set" / "b2.png")
    changed = dataset.open(dataset.videos[0])
    assert changed.digest() != digest and not changed.has_content(content)
    (root / "t.csv").write_text("image,label,split,who\nset/b3.png,1,train,x\n")
    with pytest.raises(DataError, match=r"t.csv line 2: there is no image .*b3.png. Did you mean b"):
        open_dataset(root)


def test_mistakes_in_a_table_are_named_with_their_line(tmp_path: Path, make_data: Callable[..., Path]) -> None:
    root = make_data({"a": 2})
    add_task(
        *(tmp_path, "frame", "regression", '["joy"]', "ccc"),
        'range = [0, 1]\n[labels]\ntable = "labels.csv"',
    )

    def error(text: str) -> str:
        (root / "labels.csv").write_text(text)
        return errors_of(root)[0].removeprefix(f"{root / 'labels.csv'} ")

    assert error("clip,frme,split,joy\na,1,train,0\n").startswith(
        "line 1: column 'frame' is missing; the columns are clip,"
    )
    assert "Did you mean frme?" in error("clip,frme,split,joy\na,1,train,0\n")
    assert error("clip,frame,split,joy\na,1,train,0\na,0,train,0\n").startswith(
        "line 3: frame should be a frame number"
    )
    assert error("clip,frame,split,joy\na,1,train,1.5\n").startswith("line 2: joy should be 0 to 1, or -1")
    assert error("clip,frame,split,joy\na,1,trian,1\n").startswith(
        "line 2: the split should be train, val or test, found 'trian'. Did you mean train?"
    )
    assert error("clip,frame,split,joy\na,1,train,1\na,1,train,0\n").startswith("lines 2 and 3 both label row 1 of a.")
    assert error("clip,frame,split,joy\na,1,train,1\na,2,val,0\n").startswith("lines 2 and 3 put a into two splits")
    assert error("clip;frame;split;joy\na;1;train;1\n") == (
        "line 1: its cells are separated by ';'. Save the table with commas."
    )
    assert error("video,frame,split,joy\na,1,train,1\n").endswith('name the column in the task file: clip = "...".')
    assert error("clip,frame,split,joy\na,1\n").startswith("line 2: only 2 cells: 'a,1'.")
    assert "cannot be the name of a video" in error("clip,frame,split,joy\n.a,1,train,0\n")
    assert error("clip,frame,split,joy\n").startswith("has a header but no rows.")


def test_names_that_are_almost_right_are_said(tmp_path: Path, make_data: Callable[..., Path]) -> None:
    """Of a class, of a video without crops, and of a table that is missing."""
    root = make_data({"talk": 2})
    add_task(*(tmp_path, "frame", "classes", '["calm", "tense"]', "accuracy"), '[labels]\ntable = "labels.csv"')
    (root / "label.csv").write_text("clip,frame,split,label\ntlak,1,train,Tense\n")
    assert errors_of(root) == [
        f"{root} has no labels.csv, which task mine names for its labels. Did you mean label.csv? Put it there, or name "
        "another in the task file."
    ]
    (root / "label.csv").rename(root / "labels.csv")
    reports = {report.video: report for report in examine(open_dataset(root))}
    assert reports["tlak"].errors[0].endswith("labels a video without crops: tlak. Did you mean talk?")
    (root / "labels.csv").write_text("clip,frame,split,label\ntalk,1,train,tens\n")
    assert errors_of(root)[0].endswith("found 'tens'; did you mean tense. Correct the line.")
    (root / "cropped_aligned").rename(root / "croped_aligned")
    with pytest.raises(DataError):
        open_dataset(root)
    (unread,) = (one for one in report_unread(look_through(root)) if one.video == "croped_aligned")
    assert unread.warnings[0].endswith("not a known folder name; did you mean cropped_aligned or cropped-aligned-faces")


def test_emi_and_mer_are_read_by_their_headers(tmp_path: Path) -> None:
    root, six = tmp_path / "data", "Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy"
    write_images(root / "faces" / "00014", "00001.jpg", "00002.jpg")
    write_images(root / "faces" / "00020", "00001.jpg")
    write_images(root / "faces" / "00031", "00001.jpg")  # to predict
    (root / "splits").mkdir()
    (root / "splits" / "train_split.csv").write_text(f"Filename,{six}\n00014,0.5,0,0,0.25,0,1\n")
    (root / "splits" / "valid_split.csv").write_text(f"Filename,{six}\n00020,0,0,0,0,0,0\n")
    (root / "track1_train.csv").write_text("name,discrete\n00014,worried\n")
    dataset = open_dataset(root)
    found = {(label.task, label.video): (label.split, label.read().tolist()) for label in dataset.labels}
    assert found == {
        ("emi", "00014"): ("train", [[0.5, 0, 0, 0.25, 0, 1]]),
        ("emi", "00020"): ("val", [[0, 0, 0, 0, 0, 0]]),
        ("mer", "00014"): ("train", [[4]]),
    }
    assert [video.name for video in dataset.videos] == ["00014", "00020", "00031"]
    (root / "track1_train.csv").write_text("id,label\n1,2\n")  # another table of this name
    assert {label.task for label in open_dataset(root).labels} == {"emi"}


def test_bah_splits_at_the_first_two_commas(tmp_path: Path) -> None:
    root, name = tmp_path / "data", "82532_Question_1_2024-11-13_Video"
    other = "90001_Question_2_2024-12-01_Video"
    (root / "split").mkdir(parents=True)
    (root / "split" / "train.txt").write_text(f"Videos/82532/Visite_1/{name}.mp4,1,Well, I mean, yes\n")
    (root / "split" / "val.txt").write_text(f"Videos/90001/Visite_1/{other}.mp4,0,No\n")
    (root / "split" / "test.txt").write_text("Videos/7/Visite_1/7_Question_1_x_Video.mp4\n")
    write_images(root / "cropped-aligned-faces" / "Videos" / "82532" / "Visite_1" / name, "1.jpg", "3.jpg")
    write_images(
        root / "cropped-aligned-faces" / "Videos" / "90001" / "Visite_1" / f"{other}.mp4", "frame-0.jpg", "frame-4.jpg"
    )
    dataset = open_dataset(root)
    assert labels_of(dataset) == {name: ("ah", "train", [[1]]), other: ("ah", "val", [[0]])}
    assert [label.person for label in dataset.labels] == ["82532", "90001"]  # type: ignore[attr-defined]
    rows = {video.name: (dataset.open(video).rows.tolist(), dataset.open(video).size()) for video in dataset.videos}
    assert rows == {name: ([0, 2], 2), other: ([0, 4], 2)}
    (line,) = read_split(root / "split" / "train.txt")
    assert (line.transcript, line.present) == ("Well, I mean, yes", 1)
    (remark,) = [remark for remark in dataset.remarks if not remark.is_error]
    assert remark.sentence == "BAH, no known version, or a part of one: 3 videos of 3 people, 1/1/1 in train/val/test"
    (root / "split" / "val.txt").write_text(f"a,0,x\n{other},2,No\n")
    assert "val.txt line 2: expected a path, 0 or 1, and the transcript, found '90001_" in errors_of(root)[0]


@pytest.mark.parametrize(("counts", "version"), [((616, 110, 392), "version 1"), ((778, 124, 525), "version 2")])
def test_versions_of_bah_are_told_apart_by_their_lines(tmp_path: Path, counts: tuple[int, ...], version: str) -> None:
    (tmp_path / "split").mkdir()
    for split, n_lines in zip(("train", "val", "test"), counts, strict=True):
        lines = [f"Videos/{n // 5}/Visite_1/{n // 5}_Question_{n}_{split}.mp4,{n % 2},a, b" for n in range(n_lines)]
        (tmp_path / "split" / f"{split}.txt").write_text("\n".join(lines) + "\n")
    write_images(tmp_path / "0_Question_0_train", "1.jpg")
    dataset = open_dataset(tmp_path)
    assert version in next(remark.sentence for remark in dataset.remarks) and len(dataset.labels) == sum(counts)


def write_bah(root: Path) -> list[str]:
    """BAH's splits of the two videos of the golden files, without labels of frames; their names."""
    names = ["82553_Question_1_2024-08-22_12-11-55_Video", "82813_Question_3_2025-01-31_19-18-58_Video"]
    (root / "split").mkdir(parents=True)
    for name, split, label in zip(names, ("train", "val"), (1, 0), strict=True):
        path = f"Videos/{name[:5]}/Visite_1/{name}.mp4"
        (root / "split" / f"{split}.txt").write_text(f"{path},{label},Well, yes\n")
        write_images(root / "cropped-aligned-faces" / path, *(f"frame-{frame}.jpg" for frame in range(5)))
    return names


@pytest.mark.parametrize("form", ["split-frames", "video_annotation_transcript.yaml"])
def test_frames_of_bah_are_labelled_from_0_as_their_crops(tmp_path: Path, form: str) -> None:
    """Both golden files say the same: frames that are not listed have no label, in any order of lines."""
    first, second = write_bah(tmp_path)
    (shutil.copytree if form == "split-frames" else shutil.copy)(DATA / "golden" / "bah" / form, tmp_path / form)
    dataset = open_dataset(tmp_path)
    frames = {label.video: label for label in dataset.labels if label.task == "ah-frames"}
    assert {video: (label.split, dataset.person_of(label)) for video, label in frames.items()} == {
        first: ("train", "82553"),
        second: ("val", "82813"),
    }
    assert {video: label.read()[:, 0].tolist() for video, label in frames.items()} == {
        first: [0, 0, 1, 1, 0],
        second: [1, 1, -1, 0],
    }
    assert [label.task for label in dataset.labels].count("ah") == 2
    reports = examine(dataset)
    assert totals(reports)["labels"]["ah-frames"] == {
        **{"videos": 2, "labelled_rows": {"train": 5, "val": 3}, "extra_rows": 0, "missing_rows": 1},
        **{"labels_without_crop": 0, "crops_without_label": 1},
    }
    said = [warning for report in reports for warning in report.warnings if "ah-frames" in warning]
    assert said[0].startswith("Labels of frames (ah-frames)") and not any(report.errors for report in reports)
    if form == "split-frames":
        assert said[0].endswith(": 8 frames of 2 videos, 4 of them with ambivalence or hesitancy")


def test_wrong_labels_of_frames_of_bah_are_named(tmp_path: Path) -> None:
    """And those of test videos may be missing; a file that lists none is one of transcripts alone."""
    first, second = write_bah(tmp_path)
    (tmp_path / "split-frames").mkdir()
    path = tmp_path / "split-frames" / "train.txt"
    listed = f"Videos/82553/Visite_1/{first}.mp4/frame-"
    for text, wrong in (
        (
            f"{listed}0.jpg,2\n",
            "train.txt line 1: expected a frame, such as a_Video.mp4/frame-0.jpg, and 0 or 1, found",
        ),
        (f"{listed}0.jpg,0\n{listed}x.jpg,0\n", "train.txt line 2: expected a frame"),
        ("frame-0.jpg,0\n", "train.txt line 1: expected a frame"),
        (f"{listed}1.jpg,0\n{listed}1.jpg,1\n", f"{first}: frame-1 is listed twice. Delete one of the two."),
        (f"{listed}1.jpg,0\nVideos/{first}.mp4/frame-1.jpg,1\n", f"train.txt lists {first} in two folders"),
    ):
        path.write_text(text)
        (error,) = errors_of(tmp_path)
        assert wrong in error and str(path) in error
    path.write_text(f"{listed}0.jpg\n")
    assert {label.task for label in open_dataset(tmp_path).labels} == {"ah"}
    shutil.rmtree(tmp_path / "split-frames")
    file = tmp_path / "video_annotation_transcript.yaml"
    file.write_text(f"{first}.mp4:\n  transcript: {{text: a}}\n")
    assert {label.task for label in open_dataset(tmp_path).labels} == {"ah"}
    for entry, wrong in (("[a.mp4/frame-0.jpg, x]", "frame_annotation 1 of"), ("a", "expected a frame, such as")):
        file.write_text(f"{first}.mp4:\n  frame_annotation: [{entry}]\n")
        labels = [label for label in open_dataset(tmp_path).labels if label.task == "ah-frames"]
        with pytest.raises(DataError, match=wrong):
            labels[0].read()
    file.write_text(f"{first}.mp4:\n  frame_annotation: [[{first}.mp4/frame-0.jpg, 1]]\n")
    labels = [label for label in open_dataset(tmp_path).labels if label.task == "ah-frames"]
    assert labels[0].read().tolist() == [[1]]
    with pytest.raises(DataError, match=f"has no frame_annotation of {second}. Copy it again"):
        labels[1].read()


def test_missing_videos_with_labels_of_frames_are_no_errors(tmp_path: Path) -> None:
    second = write_bah(tmp_path)[1]
    shutil.copytree(DATA / "golden" / "bah" / "split-frames", tmp_path / "split-frames")
    shutil.rmtree(tmp_path / "cropped-aligned-faces" / "Videos" / "82813")
    (report,) = (report for report in examine(open_dataset(tmp_path)) if report.video == second)
    assert not report.errors and "val.txt labels this clip, but the clip is missing" in report.warnings[0]
    assert report.n_labels_without_crop == {"ah": 1, "ah-frames": 4}


def test_scenes_are_whole_pictures_and_frames_count_from_1(tmp_path: Path) -> None:
    for split in ("Training", "Validation", "Test"):
        write_images(tmp_path / "frames" / split / "0001", "00001.jpg", "00002.jpg")
    write_images(tmp_path / "frames" / "Training" / "0002", "00001.jpg")
    for split, name, text in (
        ("Training", "0001", "Frame_Number,Label\n1,0\n3,1\n"),
        ("Training", "0002", "Frame_Number,Label\n1,1\n"),
        ("Validation", "0001", "Frame_Number,Label\n2,1\n1,0\n"),
    ):
        (tmp_path / "labels" / split).mkdir(parents=True, exist_ok=True)
        (tmp_path / "labels" / split / f"{name}.csv").write_text(text)
    dataset = open_dataset(tmp_path)
    assert labels_of(dataset) == {
        "train-0001": ("vd", "train", [[0], [-1], [1]]),
        "0002": ("vd", "train", [[1]]),
        "val-0001": ("vd", "val", [[0], [1]]),
    }
    assert sorted(video.name for video in dataset.videos) == ["0001", "0002", "train-0001", "val-0001"]
    assert {dataset.open(video).alignment for video in dataset.videos} == {WHOLE}
    path = tmp_path / "labels" / "Training" / "0002.csv"
    for text, wrong in (
        ("Frame,Label\n1,1\n", "the header should be 'Frame_Number,Label'"),
        ("Frame_Number,Label\n0,1\n", "line 2: expected a frame number from 1 and 0 or 1, found '0,1'"),
        ("Frame_Number,Label\n1,1\n1,0\n", "line 3: frame 1 is listed twice"),
        ("Frame_Number,Label\n500001,0\n", "0002.csv has frame 500,001, and 1 row in all"),
    ):
        path.write_text(text)
        (report,) = [one for one in examine(open_dataset(tmp_path)) if one.video == "0002"]
        assert wrong in report.errors[0]
    (tmp_path / "labels" / "Training").rename(tmp_path / "labels" / "Traning")
    wrong = f"{tmp_path / 'labels' / 'Traning'} is the folder of no split. Did you mean Training? Rename it."
    assert [remark.sentence for remark in open_dataset(tmp_path).remarks if remark.is_error] == [wrong]
    (tmp_path / "labels" / "Validation").rename(tmp_path / "labels" / "Validaton")
    with pytest.raises(DataError, match=r"Traning is the folder of no split\. Did you mean Training\?"):
        open_dataset(tmp_path)


def test_engagement_has_a_number_next_to_each_clip(tmp_path: Path) -> None:
    for split, name, text in (("Train", "a", "0.66\n"), ("Validation", "b", "1"), ("Test", "c", "")):
        (tmp_path / split).mkdir()
        (tmp_path / split / f"{name}.mp4").write_bytes(b"")
        if text:
            (tmp_path / split / f"{name}.txt").write_text(text)
    dataset = open_dataset(tmp_path)
    assert sorted(video.name for video in dataset.videos) == ["a", "b", "c"]
    labels = labels_of(dataset)
    assert labels["a"][:2] == ("engagement", "train") and labels["a"][2] == [[pytest.approx(0.66)]]
    assert labels["b"] == ("engagement", "val", [[1]])
    (tmp_path / "Train" / "a.txt").write_text("2")
    with pytest.raises(Exception, match=r"a.txt: engagement should be 0 to 1, or -1 if not annotated, found '2'"):
        labels_of(open_dataset(tmp_path))
    (tmp_path / "Train" / "a.txt").write_text("0.5")
    (tmp_path / "Train" / "notes.txt").write_text("by Ann\n")
    (tmp_path / "Validation" / "b.txt").rename(tmp_path / "Validation" / "b1.txt")
    (tmp_path / "Tain").mkdir()
    (tmp_path / "Tain" / "d.mp4").write_bytes(b"")
    assert {
        remark.about: remark.sentence.removeprefix(f"{tmp_path}/") for remark in open_dataset(tmp_path).remarks
    } == {
        "Validation/b1.txt": "Validation/b1.txt is the label of no clip. Did you mean b? Name labels like their clips.",
        "Tain": "Tain is the folder of no split. Did you mean Training? Rename it.",
    }
    (tmp_path / "Train" / "a.txt").rename(tmp_path / "Train" / "x.txt")
    with pytest.raises(DataError, match=r"x\.txt is the label of no clip\. The first clip without a label is a\. Name"):
        open_dataset(tmp_path)


def test_names_of_videos() -> None:
    names = ("a", "a.mp4", "x/a.MP4", "x\\a.avi", "a.b.mp4", "v1.2")
    assert [name_of_video(name) for name in names] == ["a", "a", "a", "a", "a.b", "v1.2"]
