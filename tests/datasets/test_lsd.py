"""The layout of learning from synthetic data: class folders as videos of images, and its demo dataset."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from abaw.core.errors import DataError, UsageError
from abaw.datasets.crops import list_stills
from abaw.datasets.demo.demo_lsd import write_lsd_demo
from abaw.datasets.frames import Video
from abaw.datasets.layouts import open_dataset
from abaw.media.images import read_image
from abaw.pipeline import ExtractOptions, doctor, extract
from abaw.store import FeatureStore

TRAIN, VAL = "training_set_synthetic_images", "validation_set_real_images"
CLASSES = ("anger", "disgust", "fear", "happiness", "sadness", "surprise")  # 0 to 5


@pytest.fixture
def make_images(make_crops: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Writes images of noise into class folders, `make_images("training.../FEAR", "b.jpg", "a.png")` -> the root."""

    def make(folder: str, *names: str, size: int = 64) -> Path:
        place = tmp_path / "data" / folder
        source = make_crops(tmp_path / "noise", len(names), seed=len(folder), size=size)
        place.mkdir(parents=True, exist_ok=True)
        for name, file in zip(names, sorted(source.iterdir()), strict=True):
            with Image.open(file) as image:
                image.save(place / name)
        shutil.rmtree(source)
        return tmp_path / "data"

    return make


@pytest.fixture
def root(make_images: Callable[..., Path]) -> Path:
    """All classes in both splits, one to six images each."""
    for n_images, name in enumerate(CLASSES, start=1):
        make_images(f"{TRAIN}/{name.upper()}", *[f"{image}.jpg" for image in range(n_images)])
        make_images(f"{VAL}/{name.capitalize()}", "x.jpg", "y.png")
    return Path(make_images(f"{TRAIN}/ANGER"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny demo; to be read only."""
    place = tmp_path_factory.mktemp("lsd") / "data"
    write_lsd_demo(place, "tiny")
    return place


def video_of(root: Path, name: str) -> Video:
    return next(video for video in open_dataset(root).videos if video.name == name)


def digest_of(root: Path, name: str, fps: float | None = None) -> str:
    video = video_of(root, name)
    return open_dataset(root, fps).open(video).digest()


def test_each_class_of_each_split_is_a_video_with_its_number_in_every_row(root):
    dataset = open_dataset(root)
    assert [video.name for video in dataset.videos] == [f"{s}-{c}" for s in ("train", "val") for c in CLASSES]
    assert {label.task for label in dataset.labels} == {"lsd"}
    for label in dataset.labels:
        split, _, name = label.video.partition("-")
        rows = label.read()
        assert label.split == split and rows.dtype == np.int8
        expected = CLASSES.index(name)
        assert rows.tolist() == [[expected]] * (2 if split == "val" else expected + 1)
    assert dataset.remarks == ()


@pytest.mark.parametrize("folder", ["ANGER", "ANGRER", "ANGERE", "anger", "Angrer", "aNgErE"])
def test_anger_is_anger_however_it_is_spelt(make_images, folder):
    root = make_images(f"{TRAIN}/{folder}", "0.jpg")
    (label,) = open_dataset(root).labels
    assert (label.video, label.read().tolist()) == ("train-anger", [[0]])


def test_rows_are_in_natural_order_of_any_names(make_images):
    names = ["img10.jpg", "img2.png", "img1.jpeg", "Img3.jpg", "b.jpg", "2.jpg", "10.jpg", "010_b.jpg", "010_a.jpg"]
    root = make_images(f"{VAL}/FEAR", *names)
    frames = open_dataset(root).open(video_of(root, "val-fear"))
    assert tuple(frames.file_of(row).name for row in range(9)) == (
        "2.jpg", "10.jpg", "010_a.jpg", "010_b.jpg", "b.jpg", "img1.jpeg", "img2.png", "Img3.jpg", "img10.jpg"
    )  # fmt: skip
    assert frames.rows.tolist() == list(range(9)) and frames.file_of(9) is None


def test_equal_numbers_are_ordered_by_name_and_what_is_no_image_is_told(make_images):
    root = make_images(f"{VAL}/FEAR", "2.jpg", "02.jpg", "2.png")
    folder = root / VAL / "FEAR"
    (folder / "sub.jpg").mkdir()
    for name in (".hidden.jpg", "list.txt", "Thumbs.db"):
        (folder / name).write_bytes(b"x")
    crops = list_stills(folder)
    assert crops.names == ("02.jpg", "2.jpg", "2.png")
    assert set(crops.ignored) == {"sub.jpg", "list.txt"}


def test_images_have_no_clock_and_no_warning_of_one(root):
    for fps in (None, 25.0):
        dataset = open_dataset(root, fps)
        clock = dataset.open(dataset.videos[2]).clock()
        assert (clock.fps, clock.n_frames, clock.warning) == (1.0, 3, "")
    assert digest_of(root, "train-fear") == digest_of(root, "train-fear", fps=25.0)


def test_the_digest_changes_with_each_change_of_the_images(root, make_images):
    folder = root / TRAIN / "FEAR"
    digests = [digest_of(root, "train-fear")]
    make_images(f"{TRAIN}/FEAR", "9.jpg")
    digests.append(digest_of(root, "train-fear"))
    (folder / "1.jpg").rename(folder / "one.jpg")
    digests.append(digest_of(root, "train-fear"))
    (folder / "0.jpg").unlink()
    digests.append(digest_of(root, "train-fear"))
    make_images(f"{TRAIN}/FEAR", "9.jpg", size=80)
    digests.append(digest_of(root, "train-fear"))
    assert len(set(digests)) == 5
    assert digest_of(root, "train-fear") == digests[-1]


def test_an_unknown_class_is_an_error_that_lists_the_known_and_costs_nothing_else(root, make_images, run_cli):
    make_images(f"{VAL}/CONTEMPT", "0.jpg")
    (root / VAL / ".cache").mkdir()
    assert len(open_dataset(root).videos) == 12
    result = run_cli("doctor", "--data", root)
    assert result.exit_code == 1
    assert "1 errors:" in result.stderr
    assert f"{VAL}/CONTEMPT is not the folder of a class" in result.stderr
    assert "ANGER, DISGUST, FEAR, HAPPINESS, SADNESS, SURPRISE; rename or remove it" in result.stderr


def test_two_folders_of_one_class_are_an_error_and_neither_is_taken(root, make_images, run_cli, tmp_path):
    make_images(f"{TRAIN}/ANGRER", "7.jpg")
    command = ("extract", "--backbone", "hog", "--data", root, "--store", tmp_path / "s.zarr")
    for result in (run_cli("doctor", "--data", root), run_cli(*command)):
        assert result.exit_code == 1
        assert "has 2 folders of the class Anger: ANGER and ANGRER. Merge them into one" in result.stderr
    store = FeatureStore.open(tmp_path / "s.zarr")
    assert "train-anger" not in store.labels("lsd") and "train-anger" not in store.videos("hog")
    assert "val-anger" in store.videos("hog")


def test_a_missing_or_empty_class_is_a_warning_of_doctor(root, run_cli):
    shutil.rmtree(root / TRAIN / "FEAR")
    for file in (root / TRAIN / "SADNESS").iterdir():
        file.unlink()
    reports = {report.video: report for report in doctor(root)}
    assert reports["train-fear"].warnings == (f"no folder {TRAIN}/FEAR",)
    assert reports["train-sadness"].warnings == (f"no images in {TRAIN}/SADNESS",)
    assert not any(report.errors for report in reports.values())
    result = run_cli("doctor", "--data", root)
    assert result.exit_code == 0


def test_only_unknown_classes_are_the_error_of_the_whole(make_images):
    root = make_images(f"{TRAIN}/CONTEMPT", "0.jpg")
    with pytest.raises(DataError, match=r"CONTEMPT is not the folder of a class\. The classes are ANGER"):
        open_dataset(root)


def test_doctor_counts_images_and_names_the_broken_one(root, run_cli):
    result = run_cli("doctor", "--data", root, "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0
    assert found["total"]["videos"] == 12
    assert (found["total"]["frames"], found["total"]["crops"], found["total"]["missing"]) == (33, 33, 0)
    assert found["total"]["labels"]["lsd"] == {
        "videos": 12, "labelled_rows": {"train": 21, "val": 12}, "extra_rows": 0, "missing_rows": 0, "labels_without_crop": 0, "crops_without_label": 0
    }  # fmt: skip
    assert not any(video["warnings"] for video in found["per_video"])
    (root / VAL / "Fear" / "y.png").write_text("text")
    result = run_cli("doctor", "--data", root)
    assert result.exit_code == 1
    assert "Fear/y.png is not an image" in result.stderr


def test_extract_takes_images_of_all_sizes_and_does_again_what_changed(root, make_images, run_cli, tmp_path):
    make_images(f"{TRAIN}/SURPRISE", "0.jpg", size=100)
    command = ("extract", "--backbone", "hog", "--data", root, "--store", tmp_path / "s.zarr")
    result = run_cli(*command)
    assert result.exit_code == 0
    assert "done 12, skipped 0, failed 0 (33 frames" in result.stdout
    assert "fps" not in result.stdout + result.stderr
    store = FeatureStore.open(tmp_path / "s.zarr")
    labels = store.labels("lsd")
    assert {name: labels[name].split for name in labels} == {
        name: name.partition("-")[0] for name in store.videos("hog")
    }
    feature = store.read("hog", "train-surprise")
    assert (feature.values.shape[0], feature.present.all(), feature.fps) == (6, True, 1.0)
    assert labels["train-surprise"].rows.tolist() == [[5]] * 6
    make_images(f"{TRAIN}/SURPRISE", "3b.jpg")
    assert "done 1, skipped 11" in run_cli(*command).stdout
    assert len(FeatureStore.open(tmp_path / "s.zarr").read("hog", "train-surprise").values) == 7
    assert len(FeatureStore.open(tmp_path / "s.zarr").labels("lsd")["train-surprise"].rows) == 7


def test_layouts_in_one_root_are_joined(root, make_data, make_labels):
    make_data({"a": 2}, root)
    make_labels(root, "VA_Estimation_Challenge/Train_Set", "a", "valence,arousal", "0,0", "0,0")
    dataset = open_dataset(root)
    assert [video.name for video in dataset.videos][:2] == ["a", "train-anger"]
    assert {label.task for label in dataset.labels} == {"va", "lsd"}
    make_data({"val-fear": 1}, root)
    with pytest.raises(DataError, match="two videos called 'val-fear'"):
        open_dataset(root)


# the demo


def test_demo_has_the_layout_of_the_release_with_its_misspelling(demo):
    found = {path.relative_to(demo).as_posix(): len(list(path.iterdir())) for path in demo.glob("*/*")}
    names = [name.upper() for name in CLASSES]
    assert found == {f"{TRAIN}/{name}": 40 for name in ["ANGRER", *names[1:]]} | {f"{VAL}/{name}": 20 for name in names}
    assert sorted(path.name for path in demo.iterdir()) == [TRAIN, VAL]
    assert {read_image(file).shape for file in demo.glob("*/*/*")} == {(112, 112, 3)}
    assert not any(report.errors or report.warnings for report in doctor(demo))


def test_demo_is_the_same_for_a_seed_and_another_for_another(demo, tmp_path):
    write_lsd_demo(tmp_path / "again", "tiny", 0)
    write_lsd_demo(tmp_path / "other", "tiny", 1)
    files = [file.relative_to(demo) for file in demo.glob("*/*/*")]
    assert all((demo / file).read_bytes() == (tmp_path / "again" / file).read_bytes() for file in files)
    assert not any((demo / file).read_bytes() == (tmp_path / "other" / file).read_bytes() for file in files)


def test_demo_splits_differ_in_their_look(demo):
    def roughness(split: str) -> float:
        """Mean difference of neighbouring pixels in the corners, where the background is."""
        images = [read_image(file).astype(float) for file in (demo / split).glob("*/*")]
        return float(np.mean([np.abs(np.diff(image[:12, :12], axis=1)).mean() for image in images]))

    assert roughness(VAL) > 4 * roughness(TRAIN)


def test_demo_can_be_learned_from_the_other_look(demo, tmp_path):
    assert extract(ExtractOptions(demo, tmp_path / "s.zarr", ("hog",), device="cpu")).ok
    store = FeatureStore.open(tmp_path / "s.zarr")
    values, classes = {}, {}
    for split in ("train", "val"):
        labels = store.labels("lsd", split)
        values[split] = np.concatenate([store.read("hog", name).values.astype(np.float64) for name in labels])
        classes[split] = np.concatenate([found.rows[:, 0] for found in labels.values()])
    model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(values["train"], classes["train"])
    accuracy = (model.predict(values["val"]) == classes["val"]).mean()
    assert 0.5 < accuracy < 0.99  # chance is 1/6


def test_demo_refuses_what_is_not_empty_and_unknown_sizes(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"new or empty folder.*already holds something.*choose another folder"):
        write_lsd_demo(tmp_path, "tiny")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(UsageError, match=r"Unknown demo size 'huge'.*tiny, small, large"):
        write_lsd_demo(tmp_path / "x", "huge")
    assert not (tmp_path / "x").exists()
