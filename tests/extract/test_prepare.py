"""`abaw prepare` on real videos: what it writes, what it keeps, and what it says of files that are not as they should be."""

import csv
import json
import os
import shutil
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from abaw.core.errors import DataError, UsageError
from abaw.core.progress import Silent
from abaw.datasets.layouts import open_dataset
from abaw.datasets.video_files import People, video_file_of
from abaw.extract.faces.detections import Detections
from abaw.extract.faces.face_identity import create_identity
from abaw.extract.faces.following import FaceFollower
from abaw.extract.faces.keyframes import detect_pictures
from abaw.extract.faces.layout import COLUMNS
from abaw.extract.faces.mtcnn import Mtcnn
from abaw.extract.faces.prepare import PrepareOptions, prepare_videos
from abaw.media.images import read_image
from abaw.media.pictures import read_pictures
from abaw.tests.extract.test_from_videos import STUB, turns
from abaw.tests.support.paths import DATA

VIDEOS = DATA / "sample" / "videos"
LEFT_EYES_X = (545, 713)  # of the two people on the right in multi_face.jpg, roughly


@pytest.fixture(scope="module")
def talking() -> list[np.ndarray]:
    """A face, 14 frames."""
    return [picture.image for picture in read_pictures(VIDEOS / "single_face.mp4", range(14))]


@pytest.fixture(scope="module")
def empty() -> list[np.ndarray]:
    """A wall, 10 frames."""
    return [picture.image for picture in read_pictures(VIDEOS / "face_noface.mov", range(100, 110))]


@pytest.fixture(scope="module")
def group() -> np.ndarray:
    """Five people, (666, 1000, 3)."""
    return np.asarray(Image.open(DATA / "pictures" / "multi_face.jpg").convert("RGB"))[:666]


@pytest.fixture
def film(numbered) -> Callable[..., Path]:
    """Writes real videos of pictures, `film(file, pictures=..., ...)`."""

    def write(file: Path, pictures: list[np.ndarray], **options: object) -> Path:
        return numbered.write(file, len(pictures), pictures=pictures, **options)

    return write


def crops_of(data: Path) -> dict[str, list[str]]:
    return {
        folder.name: sorted(file.name for file in folder.iterdir()) for folder in (data / "cropped_aligned").iterdir()
    }


def faces_of(data: Path, video: str) -> list[dict[str, str]]:
    with (data / "faces" / f"{video}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def all_files(data: Path) -> set[str]:
    return {path.relative_to(data).as_posix() for path in data.rglob("*") if path.is_file()}


def test_a_video_becomes_a_dataset(tmp_path, film, talking, run_cli):
    sound = 0.5 * np.sin(np.arange(16000) * 0.2).astype(np.float32)
    source = film(tmp_path / "in" / "a.mp4", pictures=talking, sound=sound)
    data = tmp_path / "data"
    done = run_cli("prepare", source, "--data", data, "--device", "cpu")
    assert done.exit_code == 0, done.output
    assert "done 1, skipped 0, failed 0 (14 frames" in done.output
    assert crops_of(data) == {"a": [f"{number:05}.jpg" for number in range(1, 15)]}
    assert read_image(data / "cropped_aligned" / "a" / "00001.jpg").shape == (112, 112, 3)
    assert (data / "videos" / "a.mp4").samefile(source)  # a hard link
    rows = faces_of(data, "a")
    assert tuple(rows[0]) == COLUMNS and [int(row["frame"]) for row in rows] == list(range(1, 15))
    np.testing.assert_allclose([float(row["time_s"]) for row in rows], np.arange(14) / 30, atol=1e-3)
    assert {row["person"] for row in rows} == {"a"} and all(float(row["score"]) > 0.9 for row in rows)
    assert 220 < float(rows[0]["left_eye_x"]) < 290 < 300 < float(rows[0]["right_eye_x"]) < 360
    with wave.open(str(data / "audio" / "a.wav")) as stream:
        assert (stream.getframerate(), stream.getnchannels(), stream.getsampwidth()) == (16000, 1, 2)
        assert abs(stream.getnframes() - 16000) < 2200  # a frame of AAC or two
    assert run_cli("doctor", "--data", data).exit_code == 0
    store = tmp_path / "store.zarr"
    assert run_cli("extract", "--backbone", "hog", "--data", data, "--store", store, "--device", "cpu").exit_code == 0
    before = {name: (data / name).stat().st_mtime_ns for name in all_files(data)}
    again = run_cli("prepare", source, "--data", data, "--device", "cpu")
    assert again.exit_code == 0 and "done 0, skipped 1, failed 0" in again.output
    assert {name: (data / name).stat().st_mtime_ns for name in all_files(data)} == before


def test_crops_show_the_face_in_place(tmp_path, film, talking):
    """The five points lie where ArcFace has them, by a look at the crop itself; single faces differ by some pixels."""
    from abaw.extract.faces.alignment import TEMPLATE

    source = film(tmp_path / "a.mp4", pictures=talking[:4])
    crops = [face.crop for frame in FaceFollower(source, Mtcnn()) for face in frame.faces.values()]
    framed = np.pad(np.stack(crops), ((0, 0), (40, 40), (40, 40), (0, 0)), mode="edge")
    landmarks = np.stack([one.landmarks[0] for one in Mtcnn().detect(framed)]) - 40
    assert len(landmarks) == 4
    assert np.abs(landmarks - TEMPLATE).mean() < 2
    assert np.linalg.norm((landmarks - TEMPLATE).mean(axis=(0, 1))) < 1.5


def test_several_people_get_names_from_left_to_right(tmp_path, film, group, run_cli):
    film(tmp_path / "in" / "two.mp4", pictures=[group[250:480, 490:840]] * 12)
    film(tmp_path / "in" / "five.mp4", pictures=[group] * 10)
    data = tmp_path / "data"
    found = run_cli("prepare", tmp_path / "in", "--data", data, "--device", "cpu")
    assert found.exit_code == 0 and "\n7 people in 2 videos.\n" in found.stdout
    crops = crops_of(data)
    assert set(crops) == {"two_left", "two_right", *(f"five_{number}" for number in range(1, 6))}
    assert all(len(names) == (12 if video.startswith("two") else 10) for video, names in crops.items())
    eyes = {row["person"]: float(row["left_eye_x"]) + 490 for row in faces_of(data, "two")}
    np.testing.assert_allclose([eyes["two_left"], eyes["two_right"]], LEFT_EYES_X, atol=15)
    clocks = {video.name: (video.file.name if video.file else "") for video in open_dataset(data).videos}
    assert clocks["two_right"] == "two.mp4" and clocks["five_3"] == "five.mp4"
    one = ("prepare", tmp_path / "in" / "two.mp4", "--data", data, "--faces", 1)
    first, again = run_cli(*one), run_cli(*one)
    assert all(result.exit_code == 0 and "\n1 person in 1 video.\n" in result.stdout for result in (first, again))
    assert "two" in crops_of(data) and not {"two_left", "two_right"} & set(crops_of(data))


def test_a_number_is_a_person_only_where_the_record_of_the_video_lists_it(tmp_path):
    files = {"a": Path("a.mp4"), "b_2": Path("b_2.mp4")}
    (tmp_path / "faces").mkdir()
    for video, people in (("a", ["a_1", "a_2", "a_3"]), ("b_2", ["b_2_1", "b_2_2", "b_2_3"])):
        (tmp_path / "faces" / f"{video}.json").write_text(json.dumps({"people": people}))
    names = ("a_3", "a_4", "b_2", "b_2_1", "b_2_4", "a_left", "b_1", "a_x", "a", "_1")
    found = [video_file_of(name, files, People(tmp_path)) for name in names]
    a, b = files.values()
    assert found == [a, None, b, b, None, a, None, None, a, None]
    (tmp_path / "faces" / "a.json").write_text("{}")
    assert video_file_of("a_3", files, People(tmp_path)) is None


def test_turned_pictures_are_made_upright(tmp_path, film, talking):
    upright = film(tmp_path / "a.mp4", pictures=talking[:6])
    lying = [np.ascontiguousarray(np.rot90(picture, -1)) for picture in talking[:6]]
    turned = film(tmp_path / "b.mp4", pictures=lying, rotation=90)
    first, second = ([frame.faces[1] for frame in FaceFollower(file, Mtcnn())] for file in (upright, turned))
    assert len(first) == len(second) == 6
    difference = [np.abs(a.crop.astype(int) - b.crop).mean() for a, b in zip(first, second, strict=True)]
    assert max(difference) < 8


def test_times_of_a_variable_rate_and_pictures_that_change_size(tmp_path, film, talking):
    times = [0, 30, 90, 100, 250, 260]
    source = film(
        tmp_path / "a.mkv", pictures=[picture[3:, 5:634] for picture in talking[:6]], times_ms=times, codec="mpeg4"
    )
    frames = list(FaceFollower(source, Mtcnn()))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.array(times) / 1000, atol=1e-3)
    assert all(list(frame.faces) == [1] for frame in frames)
    pictures = [*read_pictures(source), *read_pictures(VIDEOS / "single_face.mp4", range(3))]
    found = list(detect_pictures(pictures, Mtcnn()))
    assert [picture.image.shape for picture, _ in found] == [picture.image.shape for picture in pictures]
    assert all(len(one) == 1 for _, one in found)


def test_following_finds_what_full_detection_finds():
    numbers = range(58, 86)  # the face leaves
    pictures = list(read_pictures(VIDEOS / "face_noface.mov", numbers))
    detector = Mtcnn()
    full = [one for _, one in detect_pictures(pictures, detector, every=1)]
    quick = [one for _, one in detect_pictures(pictures, detector)]
    assert [len(one) for one in quick] == [len(one) for one in full]
    sides = [np.sqrt(np.prod(one.boxes[0, 2:] - one.boxes[0, :2])) for one in full if len(one)]
    away = [
        np.linalg.norm(a.landmarks[0] - b.landmarks[0], axis=1).mean()
        for a, b in zip(full, quick, strict=True)
        if len(a)
    ]
    assert 0 < len(away) < len(numbers) and np.mean(np.array(away) / sides) < 0.02
    trembling = [
        np.linalg.norm(np.diff([one.landmarks[0] for one in found if len(one)], 2, axis=0), axis=-1).mean()
        for found in (full, quick)
    ]
    assert trembling[1] < trembling[0]


def test_no_face(tmp_path, film, empty, run_cli):
    source = film(tmp_path / "wall.mp4", pictures=empty)
    done = run_cli("prepare", source, "--data", tmp_path / "data")
    assert done.exit_code == 0 and "wall: no face was found in it" in done.output
    assert (tmp_path / "data" / "faces" / "wall.csv").read_text().strip() == ",".join(COLUMNS)
    assert all_files(tmp_path / "data") == {"faces/wall.csv", "faces/wall.json", "videos/wall.mp4"}


def test_files_that_are_no_videos_and_files_that_are_cut_off(tmp_path, film, talking, run_cli):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "text.mp4").write_text("This is not a video.\n" * 50)
    whole = film(tmp_path / "whole.mp4", pictures=[*talking, *talking, *talking])
    content = whole.read_bytes()
    (tmp_path / "in" / "cut.mp4").write_bytes(content[: len(content) // 3])
    data = tmp_path / "data"
    done = run_cli("prepare", tmp_path / "in", "--data", data)
    assert done.exit_code == 1 and "done 1, skipped 0, failed 1" in done.output
    assert "text.mp4 cannot be read as a video" in done.output and "--fps" not in done.output
    assert "cut: cut.mp4 is cut off or damaged" in done.output and "of 42 frames" in done.output
    assert 0 < len(crops_of(data)["cut"]) < 42
    assert {path.name for path in (data / "faces").iterdir()} == {"cut.csv", "cut.json"}


def test_wrong_use(tmp_path, film, talking, run_cli):
    one = film(tmp_path / "x" / "a.mp4", pictures=talking[:2])
    (tmp_path / "y").mkdir()
    (tmp_path / "none").mkdir()
    shutil.copyfile(one, tmp_path / "y" / "a.mov")
    shutil.copyfile(one, tmp_path / "a.rm")
    for places, words in (
        ((tmp_path / "x", tmp_path / "y"), "Two videos have the name 'a'"),
        ((tmp_path / "none",), "has no video files"),
        ((tmp_path / "nowhere",), "No video"),
        ((tmp_path / "a.rm",), "does not end in one of .mp4"),
    ):
        done = run_cli("prepare", *places, "--data", tmp_path / "data")
        assert done.exit_code == 2 and words in done.output and not (tmp_path / "data").exists()
    (tmp_path / "file").write_text("")
    done = run_cli("prepare", one, "--data", tmp_path / "file" / "data")
    assert done.exit_code == 1 and "cannot be written to (Not a directory)" in done.output


def test_crops_from_elsewhere_are_left_alone(tmp_path, film, talking, make_crops):
    source = film(tmp_path / "a.mp4", pictures=talking[:2])
    data = tmp_path / "data"
    make_crops(data / "cropped_aligned" / "a", 3)
    before = {name: (data / name).read_bytes() for name in all_files(data)}
    summary = prepare_videos(PrepareOptions((source,), data, device="cpu"), Silent())
    assert "cropped_aligned/a already exists, and not from `abaw prepare`" in summary.failed["a"]
    assert {name: (data / name).read_bytes() for name in all_files(data)} == before


class Interrupting(Silent):
    """Somebody who presses Ctrl-C after some frames."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, n: int = 1, note: str = "") -> None:
        self.left -= n
        if self.left <= 0:
            raise KeyboardInterrupt


def test_going_on_after_ctrl_c(tmp_path, film, talking):
    files = tuple(film(tmp_path / f"{name}.mp4", pictures=talking[:5]) for name in "ab")
    options = PrepareOptions(files, tmp_path / "data", device="cpu")
    stopped = prepare_videos(options, Interrupting(8))
    assert stopped.done == ["a"] and stopped.stopped and stopped.stopped.reason == "interrupted" and not stopped.ok
    assert set(crops_of(tmp_path / "data")) == {"a"}
    again = prepare_videos(options, Silent())
    assert again.skipped == ["a"] and again.done == ["b"] and again.ok
    assert len(crops_of(tmp_path / "data")["b"]) == 5
    assert not list((tmp_path / "data" / "faces").glob("*.partial"))


def test_a_move_that_was_cut_off_is_ended(tmp_path, film, talking):
    source, data = film(tmp_path / "a.mp4", pictures=talking[:5]), tmp_path / "data"
    options = PrepareOptions((source,), data, device="cpu")
    prepare_videos(options, Silent())
    expected = all_files(data)
    partial = data / "faces" / "a.partial"  # as after a crash between the first move and the last
    (partial / "crops").mkdir(parents=True)
    (data / "faces" / "a.json").rename(partial / "record.json")
    (data / "faces" / "a.csv").rename(partial / "faces.csv")
    (data / "videos" / "a.mp4").unlink()
    assert prepare_videos(options, Silent()).skipped == ["a"]
    assert all_files(data) == expected and not partial.exists()


def test_names_in_a_record_lead_nowhere_else(tmp_path, film, talking):
    source, data = film(tmp_path / "a.mp4", pictures=talking[:5]), tmp_path / "data"
    prepare_videos(PrepareOptions((source,), data, device="cpu"), Silent())
    (tmp_path / "precious").mkdir()
    record = data / "faces" / "a.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "people": ["../../precious"]}))
    summary = prepare_videos(PrepareOptions((source,), data, faces=1, device="cpu"), Silent())
    assert (tmp_path / "precious").is_dir() and "already exists" in summary.failed["a"]


def test_sound_begins_with_the_first_picture(tmp_path, film, talking):
    click = np.zeros(16000, dtype=np.float32)
    click[12000:12160] = 0.9  # at 0.75 s
    times = [500, 540, 580, 620]
    source = film(tmp_path / "a.mkv", pictures=talking[:4], times_ms=times, sound=click)
    prepare_videos(PrepareOptions((source,), tmp_path / "data", device="cpu"), Silent())
    with wave.open(str(tmp_path / "data" / "audio" / "a.wav")) as stream:
        samples = np.frombuffer(stream.readframes(stream.getnframes()), dtype="<i2")
    assert abs(int(np.abs(samples.astype(int)).argmax()) / 16000 - 0.25) < 0.02


PLUGIN = """
import numpy as np
from abaw.extract.faces.detections import Detections


class Middle:
    def __init__(self, device):
        pass

    def detect(self, images):
        height, width = images.shape[1:3]
        points = np.array([(-1, -1), (1, -1), (0, 0), (-1, 1), (1, 1)]) * 40 + (width / 2, height / 2)
        box = [width / 2 - 60, height / 2 - 60, width / 2 + 60, height / 2 + 60]
        one = Detections(np.float32([box]), np.float32([1]), np.float32([points]))
        return [one] * len(images)


class Wrong(Middle):
    def detect(self, images):
        return [Detections(np.zeros((1, 4)), np.zeros(1), np.zeros((1, 3, 2)))] * len(images)

class Listing(Middle):
    def detect(self, images):
        return [[0, 0, 10, 10]] * len(images)
"""


def test_names_that_hide_something_are_refused_and_formulas_are_written_as_text(tmp_path, film, monkeypatch, talking):
    (tmp_path / "their_faces.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_faces", raising=False)
    film(tmp_path / "in" / "=1+1.mp4", pictures=talking[:2])
    hiding = [b"\xff\xfe", b"new\nline", b"\x1b[31mred", "bi\u202edi".encode(), b"cr\rlf", "line\u2028".encode()]
    for name in hiding:
        shutil.copy(tmp_path / "in" / "=1+1.mp4", tmp_path / "in" / f"{os.fsdecode(name)}.mp4")
    data = tmp_path / "data"
    summary = prepare_videos(PrepareOptions((tmp_path / "in",), data, detector="their_faces:Middle"), Silent())
    assert summary.done == ["=1+1"] and set(summary.failed) == {os.fsdecode(name) for name in hiding}
    assert all("cannot be the name of a video" in reason and reason.isprintable() for reason in summary.failed.values())
    assert {path.name for path in (data / "faces").iterdir()} == {"=1+1.csv", "=1+1.json"}
    assert [row["person"] for row in faces_of(data, "=1+1")] == ["'=1+1"] * 2
    assert crops_of(data) == {"=1+1": ["00001.jpg", "00002.jpg"]}


def test_a_video_that_another_of_its_name_and_size_replaces_is_made_again(tmp_path, film, monkeypatch, talking, empty):
    (tmp_path / "their_faces.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_faces", raising=False)
    first, other = film(tmp_path / "1.mp4", pictures=talking[:3]), film(tmp_path / "2.mp4", pictures=empty[:3])
    size = max(first.stat().st_size, other.stat().st_size) + 8
    for file in (first, other):  # followed by an empty atom
        n_more = size - file.stat().st_size
        file.write_bytes(file.read_bytes() + n_more.to_bytes(4, "big") + b"free" + bytes(n_more - 8))
    (tmp_path / "in").mkdir()
    source, data = tmp_path / "in" / "a.mp4", tmp_path / "data"
    options = PrepareOptions((source,), data, detector="their_faces:Middle")
    crops = []
    for file in (first, other):
        source.unlink(missing_ok=True)
        shutil.copy(file, source)
        assert prepare_videos(options, Silent()).done == ["a"]
        crops.append(read_image(data / "cropped_aligned" / "a" / "00001.jpg").astype(int))
        assert (data / "videos" / "a.mp4").read_bytes() == file.read_bytes()
        source.touch()
        assert prepare_videos(options, Silent()).skipped == ["a"]
    assert np.abs(crops[0] - crops[1]).mean() > 10
    record = data / "faces" / "a.json"
    content = json.loads(record.read_text())
    del content["content"]  # as older versions wrote it
    record.write_text(json.dumps(content))
    assert prepare_videos(options, Silent()).skipped == ["a"]


def test_detectors_of_other_people(tmp_path, film, monkeypatch, talking, run_cli):
    (tmp_path / "their_faces.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "their_faces", raising=False)
    source = film(tmp_path / "a.mp4", pictures=talking[:3])
    done = run_cli("prepare", source, "--data", tmp_path / "data", "--detector", "their_faces:Middle")
    assert done.exit_code == 0, done.output
    assert [row["left_eye_x"] for row in faces_of(tmp_path / "data", "a")] == ["280.00"] * 3
    for options, words in (
        (("--detector", "their_faces:Wrong"), "Wrong.detect must return Detections"),
        (("--detector", "their_faces:Listing"), "Listing.detect must return Detections"),
        (("--detector", "their_faces:Middle", "--every", 2), "--every can only be 1"),
    ):
        done = run_cli("prepare", source, "--data", tmp_path / "other", *options)
        assert done.exit_code == 2 and words in done.output


def test_streaming_gives_tracks_at_once_and_names_at_the_end(tmp_path, film, group):
    source = film(tmp_path / "two.mp4", pictures=[group[250:480, 490:840]] * 9)
    follower = FaceFollower(source, Mtcnn())
    frames = list(follower)
    assert [frame.number for frame in frames] == list(range(9)) and follower.n_frames == 9
    assert all(set(frame.faces) == {1, 2} for frame in frames)
    names = follower.names("two")
    by_name = {names[track]: face for track, face in frames[-1].faces.items()}
    assert by_name["two_left"].box[0] < by_name["two_right"].box[0]
    assert by_name["two_left"].crop.shape == (112, 112, 3) and by_name["two_left"].landmarks.shape == (5, 2)
    assert follower.notes == []


def test_a_file_without_pictures(tmp_path):
    with wave.open(str(tmp_path / "a.wav"), "wb") as stream:
        stream.setparams((1, 2, 16000, 0, "NONE", ""))
        stream.writeframes(bytes(3200))
    with pytest.raises(DataError, match="has no pictures"):
        next(iter(FaceFollower(tmp_path / "a.wav", Mtcnn())))


def test_detections_can_be_chosen():
    found = Detections(
        np.arange(8, dtype=np.float32).reshape(2, 4), np.float32([0.5, 1]), np.zeros((2, 5, 2), np.float32)
    )
    assert found.select(np.array([1])).scores.tolist() == [1] and len(Detections.empty()) == 0
    with pytest.raises(UsageError, match="No detector"):
        from abaw.extract.faces.detector import create_detector

        create_detector("nobody")


def arcface(file: Path, crops: list[Path]) -> Path:
    """Write a checkpoint in the layout of ArcFace, whose weights are random; embeddings of the crops have mean 0."""
    from abaw.backbones.vision.iresnet import IResNet

    images = torch.from_numpy(np.stack([read_image(crop) for crop in crops])).permute(0, 3, 1, 2)
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        network = IResNet(18).eval()
        network.features.running_mean += network(images / 127.5 - 1)["embedding"].mean(0)
        torch.save(network.state_dict(), file)
    return file


def test_people_are_found_again_across_cuts_by_their_faces(tmp_path, film, run_cli, monkeypatch):
    """Two people in the same place by turns: one person by position, two by their faces."""
    monkeypatch.setenv("ABAW_WEIGHTS", str(tmp_path))
    film(tmp_path / "in" / "talk.mp4", pictures=turns())
    command = ("prepare", tmp_path / "in", "--detector", STUB, "--device", "cpu", "--data")
    crops = tmp_path / "position" / "cropped_aligned" / "talk"
    for name, words in {"position": (), "faces": ("--identity", "arcface")}.items():
        done = run_cli(*command, tmp_path / name, *words)
        assert done.exit_code == 0, done.output
        assert json.loads((tmp_path / name / "faces" / "talk.json").read_text())["cuts"] == [13, 25]
        rows = faces_of(tmp_path / name, "talk")
        assert [int(row["shot"]) for row in rows] == [1] * 12 + [2] * 12 + [3] * 12
        if not words:
            arcface(tmp_path / "iresnet18.pth", [crops / "00001.jpg", crops / "00013.jpg"])
    assert crops_of(tmp_path / "position") == {"talk": [f"{number:05}.jpg" for number in range(1, 37)]}
    people = crops_of(tmp_path / "faces")
    assert sorted(people) == ["talk_left", "talk_right"]
    numbers = sorted([int(file[:5]) for file in files] for files in people.values())
    assert numbers == [[*range(1, 13), *range(25, 37)], list(range(13, 25))]
    for person, files in people.items():  # who a crop belongs to changes nothing in it
        crop = tmp_path / "faces" / "cropped_aligned" / person / files[0]
        assert crop.read_bytes() == (crops / files[0]).read_bytes()
    assert "done 0, skipped 1" in run_cli(*command, tmp_path / "faces", "--identity", "arcface").output
    image = read_image(crops / "00001.jpg")
    embeddings = [
        create_identity(text, "cpu").embed([image]) for text in ("arcface", f"arcface:{tmp_path}/iresnet18.pth")
    ]
    np.testing.assert_array_equal(*embeddings)
    assert np.linalg.norm(embeddings[0]) == pytest.approx(1)


def test_identities_that_cannot_be_had(tmp_path, film, talking, run_cli, monkeypatch):
    monkeypatch.setenv("ABAW_WEIGHTS", str(tmp_path))
    source = film(tmp_path / "a.mp4", pictures=talking[:1])
    torch.save({"weight": torch.ones(1)}, tmp_path / "other.pth")
    for identity, words in {
        "arcface": ["no weights of ArcFace", "iresnet100.pth", "--identity arcface:FILE"],
        "arcface:nowhere.pth": ["There is no file nowhere.pth"],
        "arcface:": ["arcface:FILE", "'arcface:'"],
        f"arcface:{tmp_path / 'other.pth'}": ["other.pth", "layout of ArcFace"],
        "egemaps": ["backbone of pictures", "egemaps"],
    }.items():
        result = run_cli("prepare", source, "--data", tmp_path / "data", "--device", "cpu", "--identity", identity)
        assert result.exit_code != 0 and all(word in result.output for word in words), result.output
