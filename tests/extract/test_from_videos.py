"""`abaw extract --from videos`: faces followed while the file decodes, without crops on the disk."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from abaw.backbones.backbone import create_backbone
from abaw.backbones.spec import ImageInput
from abaw.core.devices import one_thread
from abaw.core.progress import Summary
from abaw.datasets.sound_files import find_sound_files
from abaw.extract.faces.detections import Detections
from abaw.extract.faces.followed_videos import FacesFrom, open_videos
from abaw.extract.faces.following import FaceFollower
from abaw.extract.faces.given_faces import FacesInTable
from abaw.extract.faces.mtcnn import Mtcnn
from abaw.extract.follow_ahead import are_light
from abaw.extract.people_sink import PeopleSink
from abaw.extract.plan import Reading
from abaw.extract.request import ExtractOptions
from abaw.extract.selection import Companions
from abaw.media.pictures import read_pictures
from abaw.store import FeatureStore
from abaw.tests.support.paths import DATA

N_FRAMES = 40
STUB = f"{__name__}:Squares"
VIDEOS = ("--from", "videos", "--detector", STUB, "--device", "cpu")


class Squares:
    """A detector of squares of one colour, as wide as a face: what it says depends on the picture alone.

    Args:
        device: of the interface.
    """

    def __init__(self, device: str) -> None:
        self.device = device

    def detect(self, images: np.ndarray) -> list[Detections]:
        """A face in each half of a picture that has something bright."""
        return [self._detect(image) for image in images]

    def _detect(self, image: np.ndarray) -> Detections:
        boxes, middle = [], image.shape[1] // 2
        for start in (0, middle):
            rows, columns = np.nonzero(image[:, start : start + middle, 0] > 128)
            if len(rows):
                boxes.append((columns.min() + start, rows.min(), columns.max() + start, rows.max()))
        corners = np.array(boxes, dtype=np.float32).reshape(-1, 4)
        places = np.array([(0.3, 0.3), (0.7, 0.3), (0.5, 0.5), (0.35, 0.8), (0.65, 0.8)], dtype=np.float32)
        sizes = corners[:, 2:] - corners[:, :2]
        landmarks = corners[:, None, :2] + places * sizes[:, None]
        return Detections(corners, np.ones(len(corners), dtype=np.float32), landmarks)


def pictures(n_people: int, n_frames: int = N_FRAMES) -> list[np.ndarray]:
    """Faces of noise on black; the person on the right is away for some frames."""
    images = []
    for number in range(n_frames):
        image = np.zeros((96, 192, 3), dtype=np.uint8)
        rng = np.random.default_rng(number)
        for person in range(n_people):
            if person == 0 or not 10 <= number < 14:
                left = 30 + 96 * person + number % 3
                image[20:60, left : left + 40] = rng.integers(140, 255, (10, 10, 3)).repeat(4, 0).repeat(4, 1)
        images.append(image)
    return images


@pytest.fixture
def film(numbered) -> Callable[..., Path]:
    def write(file: Path, n_people: int, n_frames: int = N_FRAMES, sound: bool = False) -> Path:
        waveform = 0.5 * np.sin(np.arange(16000) * 0.2).astype(np.float32) if sound else None
        return numbered.write(file, n_frames, pictures=pictures(n_people, n_frames), sound=waveform)

    return write


def values_of(store: Path, feature: str = "hog") -> dict[str, tuple[np.ndarray, np.ndarray]]:
    opened = FeatureStore.open(store)
    read = {name: opened.read(feature, name) for name in opened.videos(feature)}
    return {name: (one.values, one.present) for name, one in read.items()}


def files_of(store: Path) -> dict[str, int]:
    return {path.as_posix(): path.stat().st_mtime_ns for path in (store / "features").rglob("*") if path.is_file()}


def test_features_are_those_of_lossless_crops(tmp_path, numbered, run_cli):
    """With the real detector, on real people: names, rows and values."""
    group = np.asarray(Image.open(DATA / "pictures" / "multi_face.jpg").convert("RGB"))[250:480, 490:840]
    file = numbered.write(tmp_path / "videos" / "two.mp4", 12, pictures=[group] * 12)
    follower, crops = FaceFollower(file, Mtcnn()), tmp_path / "lossless" / "cropped_aligned"
    frames = list(follower)
    names = follower.names("two")
    for frame in frames:
        for track, face in frame.faces.items():
            (crops / names[track]).mkdir(parents=True, exist_ok=True)
            Image.fromarray(face.crop).save(crops / names[track] / f"{frame.number + 1:05}.png")
    shutil.copytree(tmp_path / "videos", tmp_path / "lossless" / "videos")
    straight = run_cli("extract", "--backbone", "hog", "--from", "videos", "--data", tmp_path, "--store", tmp_path / "a", "--device", "cpu")  # fmt: skip
    assert straight.exit_code == 0, straight.output
    done = run_cli("extract", "--backbone", "hog", "--data", tmp_path / "lossless", "--store", tmp_path / "b", "--device", "cpu")  # fmt: skip
    assert done.exit_code == 0, done.output
    first, second = values_of(tmp_path / "a"), values_of(tmp_path / "b")
    assert list(first) == list(second) == ["two_left", "two_right"]
    for name, (values, present) in first.items():
        np.testing.assert_array_equal(present, second[name][1])
        np.testing.assert_allclose(values, second[name][0], atol=1e-3)
    assert not np.allclose(first["two_left"][0], first["two_right"][0], atol=0.1)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory) -> Path:
    """A data folder with a video of two people and sound, one of one, and one of nobody; and labels of Aff-Wild2."""
    from abaw.tests.support.videos import NumberedVideos

    data = tmp_path_factory.mktemp("filmed")
    sound = 0.5 * np.sin(np.arange(16000) * 0.2).astype(np.float32)
    for name, n_people in (("pair", 2), ("solo", 1), ("wall", 0)):
        NumberedVideos().write(data / "batch1" / f"{name}.mp4", N_FRAMES, pictures=pictures(n_people), sound=sound)
    labels = data / "VA_Estimation_Challenge" / "Train_Set"
    labels.mkdir(parents=True)
    for name in ("pair_left", "solo"):
        (labels / f"{name}.txt").write_text("valence,arousal\n" + "0.5,-0.5\n" * N_FRAMES)
    return data


@pytest.fixture(scope="module")
def extracted(filmed, tmp_path_factory) -> Path:
    """Pictures and sound of these videos."""
    from click.testing import CliRunner

    from abaw.cli import main

    store = tmp_path_factory.mktemp("extracted") / "store.zarr"
    words = (
        "extract",
        "--backbone",
        "hog",
        "--backbone",
        "egemaps",
        *VIDEOS,
        "--data",
        str(filmed),
        "--store",
        str(store),
    )
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == 0, done.output
    assert "done 3, skipped 0, failed 0" in done.output and "wall: no face was found in it" in done.output
    return store


def test_people_labels_and_sound_lie_beside_each_other(extracted):
    store = FeatureStore.open(extracted)
    values = values_of(extracted)
    assert list(values) == ["pair_left", "pair_right", "solo", "wall"] == list(store.videos("egemaps"))
    assert {name: int(present.sum()) for name, (_, present) in values.items()} == {
        "pair_left": N_FRAMES, "pair_right": N_FRAMES - 4, "solo": N_FRAMES, "wall": 0,
    }  # fmt: skip
    np.testing.assert_array_equal(np.flatnonzero(~values["pair_right"][1]), [10, 11, 12, 13])
    assert list(store.labels("va")) == ["pair_left", "solo"]
    sound = [store.read("egemaps", name).values for name in ("pair_left", "pair_right")]
    np.testing.assert_array_equal(*sound)
    assert store.read("egemaps", "pair_left").present.sum() > 25
    assert store.video_attrs("hog", "solo")["fps"] == 30 and len(values["solo"][0]) == N_FRAMES


def test_nothing_is_read_twice(filmed, extracted, run_cli, monkeypatch):
    before = files_of(extracted)
    command = ("extract", "--backbone", "hog", "--backbone", "egemaps", *VIDEOS, "--data", filmed, "--store", extracted)

    def detect(self: Squares, images: np.ndarray) -> list[Detections]:
        raise AssertionError("called again")

    monkeypatch.setattr(Squares, "detect", detect)
    forecast = run_cli(*command, "--dry-run")
    assert forecast.exit_code == 0 and "abaw train" in forecast.output, forecast.output
    again = run_cli(*command)
    assert again.exit_code == 0 and "done 0, skipped 3, failed 0" in again.output, again.output
    assert files_of(extracted) == before


def test_pictures_are_decoded_once_the_first_time(film, tmp_path, run_cli, monkeypatch):
    film(tmp_path / "videos" / "talk.mp4", 1, n_frames=6, sound=True)

    def decode(file: Path, cancelled: None) -> None:
        raise AssertionError("decoded for its times")

    monkeypatch.setenv("ABAW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("abaw.media.stamps._decode_times", decode)
    words = ("extract", "--backbone", "hog", "--backbone", "spectrogram", *VIDEOS, "--data", tmp_path)
    done = run_cli(*words, "--store", tmp_path / "store.zarr")
    assert done.exit_code == 0 and "done 1, skipped 0, failed 0" in done.output, done.output


def test_what_a_person_lacks_is_made_again(filmed, extracted, tmp_path, run_cli):
    store = shutil.copytree(extracted, tmp_path / "store.zarr")
    expected = values_of(store)
    shutil.rmtree(store / "features" / "hog" / "pair_right")
    done = run_cli("extract", "--backbone", "hog", *VIDEOS, "--data", filmed, "--store", store)
    assert "done 1, skipped 2, failed 0" in done.output, done.output
    for name, (values, present) in values_of(store).items():
        np.testing.assert_array_equal(values, expected[name][0])
        np.testing.assert_array_equal(present, expected[name][1])


def test_people_who_are_not_in_a_new_file_are_dropped(film, tmp_path, run_cli):
    file = film(tmp_path / "videos" / "talk.mp4", 2)
    command = ("extract", "--backbone", "hog", *VIDEOS, "--data", tmp_path, "--store", tmp_path / "store.zarr")
    assert run_cli(*command).exit_code == 0
    assert list(values_of(tmp_path / "store.zarr")) == ["talk_left", "talk_right"]
    film(file, 1, n_frames=20)
    assert "done 1, skipped 0" in run_cli(*command).output
    assert list(values_of(tmp_path / "store.zarr")) == ["talk"]
    assert "done 0, skipped 1" in run_cli(*command).output


def test_a_person_never_takes_the_place_of_another_video(film, tmp_path, run_cli):
    film(tmp_path / "talk.mp4", 2)
    film(tmp_path / "talk_left.mp4", 1)
    done = run_cli("extract", "--backbone", "hog", *VIDEOS, "--data", tmp_path, "--store", tmp_path / "store.zarr")
    assert done.exit_code == 1 and "done 1, skipped 0, failed 1" in done.output
    assert "talk_left" in done.output and "Rename one of the two files" in " ".join(done.output.split())


def test_a_broken_file_costs_no_other(film, tmp_path, run_cli):
    film(tmp_path / "good.mp4", 1)
    (tmp_path / "bad.mp4").write_bytes(b"no video" * 100)
    store = tmp_path / "store.zarr"
    done = run_cli("extract", "--backbone", "hog", *VIDEOS, "--data", tmp_path, "--store", store)
    assert done.exit_code == 1 and "done 1, skipped 0, failed 1" in done.output and "bad.mp4" in done.output
    assert list(values_of(store)) == ["good"]


def test_values_that_wait_in_a_file_are_the_same(filmed, extracted, tmp_path, run_cli, monkeypatch):
    monkeypatch.setattr("abaw.extract.people_sink.MEMORY_BYTES", 1000)
    monkeypatch.setattr("abaw.extract.people_sink.ROWS_AT_ONCE", 7)
    store = tmp_path / "store.zarr"
    done = run_cli("extract", "--backbone", "hog", *VIDEOS, "--data", filmed, "--store", store, "--batch-size", 3)
    assert done.exit_code == 0, done.output
    for name, (values, present) in values_of(extracted).items():
        np.testing.assert_allclose(values_of(store)[name][0], values, atol=1e-3)
        np.testing.assert_array_equal(values_of(store)[name][1], present)


def test_what_was_cut_off_is_not_in_the_store(filmed, tmp_path, run_cli, monkeypatch):
    store, begun = tmp_path / "store.zarr", PeopleSink._store_people

    def interrupt(self: PeopleSink, video: str, spool: object) -> None:
        if video == "solo":
            raise OSError(28, "No space left on device")
        begun(self, video, spool)

    monkeypatch.setattr(PeopleSink, "_store_people", interrupt)
    command = ("extract", "--backbone", "hog", *VIDEOS, "--data", filmed, "--store", store)
    stopped = run_cli(*command)
    assert stopped.exit_code == 1 and "no space left" in stopped.output
    monkeypatch.setattr(PeopleSink, "_store_people", begun)
    assert "failed 0" in run_cli(*command).output
    assert list(values_of(store)) == ["pair_left", "pair_right", "solo", "wall"]


def test_faces_of_a_table_need_no_detector(filmed, extracted, tmp_path, run_cli):
    prepared = tmp_path / "prepared"
    done = run_cli("prepare", filmed / "batch1" / "pair.mp4", "--data", prepared, "--detector", STUB, "--device", "cpu")
    assert done.exit_code == 0, done.output
    data = tmp_path / "data"
    (data / "videos").mkdir(parents=True)
    shutil.copy(filmed / "batch1" / "pair.mp4", data / "videos")
    store = tmp_path / "store.zarr"
    words = ("--from", "videos", "--faces", prepared / "faces", "--data", data, "--store", store)
    done = run_cli("extract", "--backbone", "hog", *words)
    assert done.exit_code == 0, done.output
    from_table, detected = values_of(store), values_of(extracted)
    assert list(from_table) == ["pair_left", "pair_right"]
    for name, (values, present) in from_table.items():
        np.testing.assert_array_equal(present, detected[name][1])
        assert np.abs(values - detected[name][0]).mean() < 0.01  # the table has two decimals
    assert "skipped 1" in run_cli("extract", "--backbone", "hog", *words).output


def test_crops_that_are_kept_are_those_of_prepare(filmed, extracted, tmp_path, run_cli):
    data, store = tmp_path / "data", tmp_path / "store.zarr"
    (data / "videos").mkdir(parents=True)
    for name in ("pair", "wall"):
        shutil.copy(filmed / "batch1" / f"{name}.mp4", data)
    kept = run_cli("extract", "--backbone", "hog", *VIDEOS, "--data", data, "--keep-crops", data, "--store", store)
    assert kept.exit_code == 0, kept.output
    for name, (values, present) in values_of(store).items():
        np.testing.assert_allclose(values, values_of(extracted)[name][0], atol=1e-3)
        np.testing.assert_array_equal(present, values_of(extracted)[name][1])
    prepared = tmp_path / "prepared"
    prepare = ("prepare", data / "pair.mp4", data / "wall.mp4", "--detector", STUB, "--device", "cpu", "--data")
    again = run_cli(*prepare, data)
    assert again.exit_code == 0 and "done 0, skipped 2, failed 0" in again.output, again.output
    assert run_cli(*prepare, prepared).exit_code == 0
    files = {
        root: {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (data, prepared)
    }
    for name in ("pair.mp4", "wall.mp4"):
        del files[data][Path(name)]
    assert files[data] == files[prepared] and Path("cropped_aligned/pair_left/00001.jpg") in files[data]
    words = ("--backbone", "hog", "--data", data, "--store", tmp_path / "crops.zarr")
    assert run_cli("extract", *words).exit_code == 0
    assert set(values_of(tmp_path / "crops.zarr")) == {"pair_left", "pair_right"}
    once_more = run_cli("extract", "--backbone", "hog", *VIDEOS, "--data", data, "--keep-crops", data, "--store", store)
    assert "done 0, skipped 2, failed 0" in once_more.output, once_more.output


def test_no_crops_are_kept_of_a_video_that_fails(film, tmp_path, run_cli, monkeypatch):
    film(tmp_path / "videos" / "talk.mp4", 1)

    def fail(self: object, *arguments: object) -> None:
        raise ValueError("no sound")

    words = ("extract", "--backbone", "hog", *VIDEOS, "--data", tmp_path, "--keep-crops", tmp_path / "kept")
    with monkeypatch.context() as patch:
        patch.setattr("abaw.extract.faces.prepare.load_sound", fail)
        done = run_cli(*words, "--store", tmp_path / "store.zarr")
        assert done.exit_code == 1 and "no sound" in done.output
    assert not [path for path in (tmp_path / "kept").rglob("*") if path.is_file()]
    assert "failed 0" in run_cli(*words, "--store", tmp_path / "store.zarr").output
    assert len(list((tmp_path / "kept" / "cropped_aligned" / "talk").iterdir())) == N_FRAMES


def test_faces_cut_out_by_boxes_are_another_feature(filmed, extracted, tmp_path, run_cli):
    table, store = tmp_path / "faces", shutil.copytree(extracted, tmp_path / "store.zarr")
    table.mkdir()
    (table / "solo.csv").write_text("frame,left,top,right,bottom\n3,31,20,71,60\n")
    data = tmp_path / "videos"
    data.mkdir()
    shutil.copy(filmed / "batch1" / "solo.mp4", data)
    words = ("--from", "videos", "--faces", table, "--data", data, "--store", store, "--device", "cpu")
    refused = " ".join(run_cli("extract", "--backbone", "hog", *words).output.split())
    assert "alignment prepare there, box here" in refused, refused
    done = run_cli("extract", "--backbone", "boxed=hog", *words)
    assert done.exit_code == 0, done.output
    opened = FeatureStore.open(store)
    assert opened.feature_record("boxed")["alignment"] == "box" and opened.read("boxed", "solo").present.sum() == 1


def test_people_are_looked_up_in_the_feature_that_has_them(filmed, extracted, monkeypatch):
    dataset, asked = open_videos(filmed, FacesFrom(detector=STUB)), list[tuple[str, str]]()
    companions = Companions(dataset.people, find_sound_files(filmed), {})
    reading = Reading(
        dataset, FeatureStore.open(extracted), ["egemaps"], Summary(), lambda n, note="": None, companions
    )
    look_up = FeatureStore.video_attrs
    monkeypatch.setattr(FeatureStore, "video_attrs", lambda self, *names: asked.append(names) or look_up(self, *names))
    people = [source.frames.name for source in reading.sound_sources(dataset.videos, follows=True)]
    assert people == ["pair_left", "pair_right", "solo", "wall"]
    # sound comes first, and has no people from pictures; it is asked about one video
    assert {video for feature, video in asked if feature == "egemaps"} <= {"pair", "pair_left", "pair_right", "pair_1"}


def test_boxes_alone_give_squares(filmed, tmp_path):
    table = tmp_path / "solo.csv"
    table.write_text("frame,left,top,right,bottom\n3,31,20,71,60\n900,0,0,9,9\n")
    faces = FacesInTable(filmed / "batch1" / "solo.mp4", table)
    crops = {frame.number: face.crop for frame in faces for face in frame.faces.values()}
    assert list(crops) == [2] and faces.names("solo") == {1: "solo"}
    image = next(read_pictures(filmed / "batch1" / "solo.mp4", [2])).image
    # 40 pixels become 112, so that pixel x of the crop is the picture's 31 + (x + .5) / 2.8 - .5
    centres = (np.arange(6, 112, 28) + 0.5) / 2.8 - 0.5
    expected = image[np.ix_(np.rint(20 + centres).astype(int), np.rint(31 + centres).astype(int))]
    assert np.abs(crops[2][6:112:28, 6:112:28].astype(int) - expected).mean() < 12
    assert "1 faces in" in faces.notes[0] and "after the last one, 40" in faces.notes[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("frame,x\n1,2\n", "It needs frame, and left, top"),
        ("frame,left,top,right,bottom\n0,1,1,2,2\n", "line 2: frame 0 is less than 1"),
        ("frame,left,top,right,bottom\n1,1,1,nan,2\n", "line 2: a coordinate is not finite"),
        ("frame,left,top,right,bottom\n1,1,1,2\n", "line 2: "),
        ("frame,left,top,right,bottom\n1,1,1,2,2\n1,1,1,2,2\n", "line 3: frame 1 has two faces"),
        ("frame,person,left,top,right,bottom\n1,../x,1,1,2,2\n", "cannot be the name of a person"),
    ],
)
def test_tables_that_are_none_of_faces(filmed, tmp_path, content, words):
    table = tmp_path / "t.csv"
    table.write_text(content)
    with pytest.raises(Exception, match=words):
        list(FacesInTable(filmed / "batch1" / "solo.mp4", table))


def test_whole_pictures(filmed, tmp_path, run_cli):
    store = tmp_path / "store.zarr"
    done = run_cli("extract", "--backbone", "hog", "--from", "videos", "--faces", "whole", "--data", filmed, "--store", store)  # fmt: skip
    assert done.exit_code == 0, done.output
    assert {name: int(present.sum()) for name, (_, present) in values_of(store).items()} == dict.fromkeys(
        ("pair", "solo", "wall"), N_FRAMES
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--faces", "track"), "--faces is for video files. Add --from videos."),
        (("--from", "videos", "--faces", "nowhere"), "--faces nowhere is neither a file nor a folder"),
        (("--from", "videos", "--detector", "yolo"), "No detector 'yolo'"),
        (("--from", "videos"), "has no video files"),
        (("--keep-crops", "kept"), "--keep-crops is for faces that are followed. Add --from videos"),
        (("--from", "videos", "--faces", "whole", "--keep-crops", "kept"), "and leave out --faces."),
    ],
)
def test_options_that_do_not_fit(tmp_path, run_cli, words, message):
    (tmp_path / "data" / "cropped_aligned" / "a").mkdir(parents=True)
    (tmp_path / "data" / "cropped_aligned" / "a" / "00001.jpg").write_bytes(b"")
    if "no video files" not in message:
        (tmp_path / "data" / "a.mp4").write_bytes(b"")
    done = run_cli("extract", "--backbone", "hog", "--data", tmp_path / "data", "--store", tmp_path / "s", *words)
    assert done.exit_code in (1, 2) and message in " ".join(done.output.split()), done.output


def test_sound_alone_has_no_people(filmed, tmp_path, run_cli):
    done = run_cli("extract", "--backbone", "egemaps", *VIDEOS, "--data", filmed, "--store", tmp_path / "s.zarr")
    assert done.exit_code == 1 and "Add a --backbone of images" in " ".join(done.output.split())


def turns() -> list[np.ndarray]:
    """A red, a yellow and the red person again in one place, 12 pictures each, in two rooms."""
    shots = []
    for number, colour in enumerate([(250, 60, 60), (250, 250, 60), (250, 60, 60)]):
        image = np.zeros((96, 192, 3), dtype=np.uint8)
        image[:, 10:30, 2] = 120 if number % 2 else 0
        image[70:, 10:, 1] = 0 if number % 2 else 120
        image[20:60, 110:150] = colour
        shots += [image] * 12
    return shots


class MeanColour(torch.nn.Module):
    """A backbone by which people are told apart: mean colour of a crop, without its brightness."""

    shape = (3,)
    image = ImageInput(112)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        means = images.mean((2, 3))
        return means - means.mean(1, keepdim=True)


def test_people_of_videos_are_told_apart_across_cuts(tmp_path, numbered, run_cli):
    numbered.write(tmp_path / "videos" / "talk.mp4", 36, pictures=turns())
    words = ("extract", "--backbone", "hog", *VIDEOS, "--data", tmp_path, "--store")
    identity = ("--identity", f"{__name__}:MeanColour")
    for store, more in ((tmp_path / "a", ()), (tmp_path / "b", identity)):
        done = run_cli(*words, store, *more)
        assert done.exit_code == 0, done.output
        (attrs, *_) = FeatureStore.open(store).videos("hog").values()
        assert attrs["cuts"] == [13, 25]
    assert "done 0, skipped 1" in run_cli(*words, tmp_path / "b", *identity).output
    rows = {name: (np.flatnonzero(present) + 1).tolist() for name, (_, present) in values_of(tmp_path / "b").items()}
    assert sorted(rows.values()) == [[*range(1, 13), *range(25, 37)], list(range(13, 25))]
    assert list(values_of(tmp_path / "a")) == ["talk"]
    options = ExtractOptions(
        tmp_path, tmp_path / "c", ("hog",), faces="track", identity="arcface:weights.pth"
    ).absolute()
    assert options.identity == f"arcface:{Path.cwd() / 'weights.pth'}" and options.faces == "track"
    crops = ("extract", "--backbone", "hog", "--data", tmp_path, "--store", tmp_path / "c")
    for command in ((*words, tmp_path / "c", "--faces", "whole"), crops):
        refused = run_cli(*command, *identity)
        assert refused.exit_code == 2 and "--identity" in refused.output


def test_a_light_network_leaves_the_cores_to_faces():
    light, heavy = create_backbone("fer"), create_backbone("vit-tiny-mean", untrained=True)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for backbones, expected in (([light], 1), ([heavy], 2), ([light, heavy], 2)):
            with one_thread(are_light(backbones)):
                assert torch.get_num_threads() == expected
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
