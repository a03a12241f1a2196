"""The clips of VGAF: labels, frames straight from video files and tensors, sound on the same rows, and the demo."""

import json
import pickle
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from abaw.backbones.backbone import create_backbone
from abaw.core.errors import DataError, UsageError
from abaw.datasets.demo.demo_vgaf import n_frames_of, plan_clips, write_clip, write_vgaf_demo
from abaw.datasets.demo.film import PARTIAL
from abaw.datasets.doctor import examine
from abaw.datasets.layouts import open_dataset
from abaw.datasets.vgaf import clip_name, open_vgaf, read_clip_labels
from abaw.exchange.exporter import export_feature
from abaw.exchange.importer import ImportOptions, import_features
from abaw.media.tensors import read_image_tensor
from abaw.pipeline import ExtractOptions, extract, forecast_extraction
from abaw.store import FeatureStore
from abaw.tests.support.emotiw_tensors import NETWORKS, images, normalised_for, spectrograms, write_emotiw


@pytest.fixture
def make_clips(tmp_path, numbered):
    """Makes a data folder, `make_clips({"1_1": 3}, {"7_1": 1})`: training and validation clips of 2 s with labels."""

    def make(train: dict[str, int], val: dict[str, int] | None = None, **video: object) -> Path:
        root = tmp_path / "data"
        for folder, labels in (("Train", train), ("Val", val or {})):
            lines = [f"{name} {label}" for name, label in labels.items()]
            root.mkdir(exist_ok=True)
            (root / f"{folder}_labels.txt").write_text("\n".join(["Vid_name Label", *lines]) + "\n")
            for name in labels:
                numbered.write(root / folder / f"{clip_name(name)}.mp4", **{"n_frames": 60, **video})
        return root

    return make


@pytest.fixture
def run(tmp_path):
    """Extracts on the CPU; gives the summary and the store."""

    def run(root: Path, *backbones: str, store: str = "store.zarr", **options: object):
        summary = extract(ExtractOptions(root, tmp_path / store, backbones, device="cpu", **options))
        return summary, FeatureStore.open(tmp_path / store)

    return run


def decoded(file: Path) -> list[np.ndarray]:
    with av.open(str(file)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def hog_of(images: list[np.ndarray]) -> np.ndarray:
    hog = create_backbone("hog")
    return hog(hog.preprocess(torch.from_numpy(np.stack(images)))).numpy().astype(np.float16)


def test_a_clip_that_another_of_its_name_and_size_replaces_is_extracted_again(make_clips, run, numbered):
    root = make_clips({"1_1": 1, "1_2": 1}, n_frames=20)
    clip, backbones = root / "Train" / "1_1.mp4", ("hog", "spectrogram")
    n_bytes = clip.stat().st_size
    clip.write_bytes(clip.read_bytes() + (10**5).to_bytes(4, "big") + b"free" + bytes(10**5 - 8))  # room at the end
    _, store = run(root, *backbones)
    before = {feature: store.video_attrs(feature, "1_1")["content"] for feature in backbones}
    other = numbered.write(root.parent / "other.mp4", n_frames=20, pictures=[np.full((64, 96, 3), 9, np.uint8)] * 20)
    n_more = n_bytes + 10**5 - other.stat().st_size
    clip.write_bytes(other.read_bytes() + n_more.to_bytes(4, "big") + b"free" + bytes(n_more - 8))
    planned = forecast_extraction(ExtractOptions(root, Path(store.path), backbones, device="cpu"))
    summary, store = run(root, *backbones)
    assert summary.done == ["1_1"] and summary.skipped == ["1_2"], "the other one is as it was"
    assert planned.n_videos == 1, "abaw extract --dry-run says the same"
    assert all(store.video_attrs(feature, "1_1")["content"] != content for feature, content in before.items())
    np.testing.assert_array_equal(store.read("hog", "1_1").values[0], hog_of([decoded(clip)[0]])[0])
    clip.touch()
    assert sorted(run(root, *backbones)[0].skipped) == ["1_1", "1_2"], "a copy has another time, and the same bytes"


# labels


def test_labels_and_splits(make_clips, run):
    root = make_clips({"1_1": 1, "1_2.mp4": 2}, {"10_1": 3})
    summary, store = run(root, "hog")
    assert summary.ok and sorted(summary.done) == ["10_1", "1_1", "1_2"]
    labels = store.labels("vgaf")
    assert {name: (one.split, one.rows.tolist(), one.rows.dtype.name) for name, one in labels.items()} == {
        "1_1": ("train", [[0]], "int8"), "1_2": ("train", [[1]], "int8"), "10_1": ("val", [[2]], "int8")
    }  # fmt: skip
    assert run(root, "hog")[0].skipped == ["1_1", "1_2", "10_1"]


@pytest.mark.parametrize("places", [("", "Train"), ("labels", "videos"), ("", ""), ("labels", "videos/Train")])
def test_where_labels_and_clips_may_lie(tmp_path, numbered, places):
    labels, clips = (tmp_path / place for place in places)
    labels.mkdir(exist_ok=True)
    (labels / "Train_labels.txt").write_text("Vid_name Label\n1_1 1\n")
    file = numbered.write(clips / "1_1.mp4", 3)
    dataset = open_dataset(tmp_path)
    assert [(video.name, video.file) for video in dataset.videos] == [("1_1", file)]
    assert [(label.video, label.split, label.read().item()) for label in dataset.labels] == [("1_1", "train", 0)]


@pytest.mark.parametrize(
    ("lines", "number", "sentence"),
    [
        (["1_1"], 2, "expected a name and a label"),
        (["1_1 1", "1_2 1 2"], 3, "expected a name and a label"),
        (["1_1 4"], 2, "a label is 1 .Positive., 2 .Neutral. or 3 .Negative., found '4'"),
        (["1_1 0"], 2, "found '0'"),
        (["1_1 1", "", "../1_2 1"], 4, "'../1_2' is not the name of a clip"),
        (["a/b 1"], 2, "is not the name of a clip"),
        (["a\\b 1"], 2, "is not the name of a clip"),
        (["..  1"], 2, "is not the name of a clip"),
        ([".mp4 1"], 2, "is not the name of a clip"),
        (["1_1 1", "1_2 1", "1_1.mp4 2"], 4, "clip 1_1 is already in line 2"),
    ],
)
def test_a_line_that_is_wrong_is_named_and_costs_its_file(make_clips, run, lines, number, sentence):
    root = make_clips({"1_1": 1}, {"10_1": 3}, n_frames=4)
    path = root / "Train_labels.txt"
    path.write_text("\n".join(["Vid_name Label", *lines]) + "\n")
    with pytest.raises(DataError, match=f"Train_labels.txt line {number}: .*{sentence}"):
        list(read_clip_labels(path, "train"))
    summary, store = run(root, "hog")
    assert len(summary.label_errors) == 1 and f"line {number}: " in summary.label_errors[0] and not summary.ok
    assert list(store.labels("vgaf")) == ["10_1"] and sorted(summary.done) == ["10_1", "1_1"]


def test_accents_mean_the_same_in_names_of_files_and_in_labels_and_junk_is_no_clip(make_clips):
    apart, together = "cafe\u0301", "caf\u00e9"
    root = make_clips({apart: 1, "_b": 2})
    (root / "Train_labels.txt").write_text(f"Vid_name Label\n{together} 1\n_b.mp4 2\n \n\x1a", encoding="utf-8")
    (root / "Train" / "._c.mp4").write_bytes(b"Mac OS X")
    (root / "synthetic" / "__MACOSX").mkdir(parents=True)
    dataset = open_vgaf(root, None)
    assert dataset is not None and dataset.remarks == ()
    assert {video.name for video in dataset.videos} == {label.video for label in dataset.labels} == {together, "_b"}


def test_a_clip_in_both_splits_is_an_error(make_clips):
    root = make_clips({"1_1": 1}, {"1_1": 2}, n_frames=4)
    found = [remark.sentence for remark in open_vgaf(root, None).remarks if remark.is_error]
    assert len(found) == 1 and "both label clip 1_1" in found[0]


def test_two_clips_of_one_name_are_an_error_and_a_copy_is_not(make_clips, numbered):
    root = make_clips({"1_1": 1}, n_frames=4)
    (root / "videos").mkdir()
    (root / "videos/1_1.mp4").write_bytes((root / "Train/1_1.mp4").read_bytes())
    assert not any(remark.is_error for remark in open_vgaf(root, None).remarks)
    numbered.write(root / "videos/1_1.mp4", 30)
    (remark,) = [remark for remark in open_vgaf(root, None).remarks if remark.is_error]
    assert "videos/1_1.mp4 is not used" in remark.sentence and "Train/1_1.mp4 has the same name" in remark.sentence


def test_other_folders_are_not_of_this_layout(make_data, tmp_path):
    assert open_vgaf(make_data({"a": 2}), None) is None


# frames


def test_rows_are_the_middles_of_equal_parts(make_clips, run, numbered):
    """5 s at 30 fps: the middle of part i of 75 is where frame 2 i + 1 begins."""
    root = make_clips({"1_1": 1}, n_frames=150)
    summary, store = run(root, "hog")
    found = store.read("hog", "1_1")
    assert summary.ok and found.present.all() and found.fps == pytest.approx(15)
    frames = decoded(root / "Train/1_1.mp4")[1::2]
    assert [numbered.number(frame) for frame in frames] == list(range(1, 150, 2))
    np.testing.assert_array_equal(found.values, hog_of(frames))


@pytest.mark.parametrize("form", ["h5", "npy"])
def test_rows_are_as_they_were_after_an_export_and_an_import_beside_the_clips(make_clips, run, tmp_path, form):
    root = make_clips({"1_1": 1}, n_frames=150)
    _, store = run(root, "hog")
    export_feature(store, "hog", tmp_path / f"out.{form}", form)
    assert import_features(ImportOptions(tmp_path / f"out.{form}", tmp_path / "again.zarr", "hog", root)).ok
    found, wanted = FeatureStore.open(tmp_path / "again.zarr").read("hog", "1_1"), store.read("hog", "1_1")
    np.testing.assert_array_equal(found.values, wanted.values)
    assert found.present.all() and found.fps == pytest.approx(wanted.fps)


def test_rows_of_a_variable_rate_and_of_few_frames(make_clips, run):
    times_ms = [0, 100, 150, 900, 1000, 1850]
    root = make_clips({"1_1": 1}, times_ms=times_ms)
    found = run(root, "hog")[1].read("hog", "1_1")
    duration_ms = 1850 * 6 / 5  # the last frame is shown for the mean time of the others
    middles = (np.arange(75) + 0.5) * duration_ms / 75
    shown = [max(n for n, time in enumerate(times_ms) if time <= middle) for middle in middles]
    assert found.fps == pytest.approx(75 / duration_ms * 1000)
    np.testing.assert_array_equal(found.values, hog_of(decoded(root / "Train/1_1.mp4"))[shown])


def test_clips_of_several_sizes_do_not_change_one_another(make_clips, run, numbered):
    root = make_clips({"1_1": 1, "1_2": 2})
    numbered.write(root / "Train/1_3.mp4", 30, size=(640, 400))  # shrunk to a shorter side of 336
    numbered.write(root / "Train/1_4.mp4", 60, size=(64, 96))
    summary, store = run(root, "hog", batch_size=32)
    other = run(root, "hog", store="other.zarr", batch_size=50)[1]
    assert summary.ok and summary.n_frames == 4 * 75
    for name in ("1_1", "1_2", "1_3", "1_4"):
        np.testing.assert_array_equal(store.read("hog", name).values, other.read("hog", name).values)
    np.testing.assert_array_equal(store.read("hog", "1_1").values, store.read("hog", "1_2").values)


def test_damaged_clips_cost_only_themselves(make_clips, run):
    root = make_clips({"1_1": 1, "1_2": 1, "1_3": 1}, n_frames=150)
    (root / "Train/1_1.mp4").write_text("I am a text file.\n")
    content = (root / "Train/1_2.mp4").read_bytes()
    start = content.index(b"mdat")
    (root / "Train/1_2.mp4").write_bytes(content[: start + (len(content) - start) // 2])
    summary, store = run(root, "hog", "spectrogram")
    assert list(summary.failed) == ["1_1"] and "1_1.mp4 cannot be read as a video" in summary.failed["1_1"]
    assert len(summary.broken_frames) == 1 and "1_2.mp4 is cut off or damaged" in summary.broken_frames[0]
    assert sorted(summary.done) == ["1_2", "1_3"] and not summary.ok
    found, whole = store.read("hog", "1_2"), store.read("hog", "1_3")
    n_there = int(found.present.sum())
    assert 10 < n_there < 65 and found.present[:n_there].all() and found.fps == pytest.approx(15, abs=0.1)
    np.testing.assert_array_equal(found.values[: n_there - 1], whole.values[: n_there - 1])
    reports = {report.video: report for report in examine(open_dataset(root))}
    assert "1_1.mp4 cannot be read" in reports["1_1"].errors[0]
    assert "cut off" in reports["1_2"].warnings[0] and reports["1_3"].warnings == reports["1_3"].errors == ()


# sound


@pytest.mark.parametrize("number", ["0", "1", "Positive"])
def test_synthetic_clips_may_be_numbered_from_0_or_from_1(tmp_path, number):
    path = tmp_path / "Positive_labels.txt"
    path.write_text(f"made-1 {number}\n")
    assert [(label.video, label.read().tolist()) for label in read_clip_labels(path, "synthetic", "Positive")] == [
        ("made-1", [[0]])
    ]


@pytest.mark.parametrize("first_ms", [0, 400])
def test_sound_is_on_the_rows_of_the_pictures(make_clips, run, first_ms):
    """A beep from 2.0 to 2.5 s of the file; rows are 1/15 s long and begin with the first picture."""
    times = np.arange(16000 * 6) / 16000
    beep = np.where((times >= 2) & (times < 2.5), 0.5 * np.sin(2 * np.pi * 1000 * times), 0)
    root = make_clips({"1_1": 1}, times_ms=first_ms + np.arange(125) * 40, sound=beep)
    summary, store = run(root, "spectrogram", "hog")
    found = store.read("spectrogram", "1_1")
    assert summary.ok and found.values.shape == (75, 1, 128, 128) and found.fps == pytest.approx(15)
    now = found.values[:, 0, :, 63:65].max((1, 2)).astype(float)  # the steps in the middle of each row
    first, last = (2.0 - first_ms / 1000) * 15, (2.5 - first_ms / 1000) * 15
    loud = [row for row in range(75) if now[row] > (now.max() + now.min()) / 2]
    inside = [row for row in range(75) if first <= row and row + 1 <= last]
    assert set(inside) <= set(loud) <= {row for row in range(75) if row + 1 > first and row < last}


# tensors


@pytest.mark.parametrize("is_first", [True, False], ids=["channels first", "channels last"])
@pytest.mark.parametrize(
    ("dtype", "scale"),
    [(torch.uint8, 1), (torch.int64, 1), (torch.float32, 1), (torch.float32, 255), (torch.float64, 255)],
)
def test_layouts_and_ranges_of_image_tensors(tmp_path, is_first, dtype, scale):
    tensor = (torch.from_numpy(images()).double() / scale).to(dtype)
    torch.save(tensor.permute(0, 3, 1, 2) if is_first else tensor, tmp_path / "a.pt")
    np.testing.assert_array_equal(read_image_tensor(tmp_path / "a.pt"), images())


@pytest.mark.parametrize(
    ("tensor", "sentence"),
    [
        (
            torch.linspace(-2, 2, 5 * 3 * 4).reshape(5, 3, 2, 2),
            "pixels from -2 to 2: they seem to be normalised, but the values do not say for which network",
        ),
        (torch.full((5, 3, 2, 2), 300.0), "pixels from 300 to 300; images should have 0 to 1 or 0 to 255"),
        (torch.full((5, 3, 2, 2), -3.0), "pixels from -3 to -3: they seem to be normalised"),
        (torch.full((5, 3, 2, 2), -3), "pixels from -3 to -3; images should have"),
        (torch.full((5, 3, 2, 2), float("nan")), "pixels from nan to nan"),
        (torch.zeros(5, 4, 2, 2), r"shape \(5, 4, 2, 2\); images are"),
        (torch.zeros(0, 3, 2, 2), "no pixels"),
        ({"frames": torch.zeros(5, 3, 2, 2)}, "holds a dict, not one tensor"),
    ],
)
def test_other_tensors_are_refused(tmp_path, tensor, sentence):
    torch.save(tensor, tmp_path / "a.pt")
    with pytest.raises(DataError, match=sentence):
        read_image_tensor(tmp_path / "a.pt")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("brightest", [256, 140, 30], ids=["all", "half", "dark"])
def test_values_say_for_which_network_pixels_were_normalised(tmp_path, network, dtype, brightest):
    pixels = np.random.default_rng(1).integers(0, brightest, (3, 20, 24, 3), dtype=np.uint8)
    for shown in (pixels, 255 - pixels):
        torch.save(normalised_for(network, shown, dtype), tmp_path / "a.pt")
        np.testing.assert_array_equal(read_image_tensor(tmp_path / "a.pt"), shown)


def test_values_between_whole_pixels_take_the_named_network(tmp_path):
    """Resized after ToTensor: undone, values are no whole numbers, and nothing tells one network from another."""
    smooth = np.random.default_rng(2).uniform(0, 255, (3, 8, 8, 3))
    torch.save(normalised_for("imagenet", smooth), tmp_path / "a.pt")
    with pytest.raises(DataError, match="Choose --tensors normalised=clip or --tensors normalised=imagenet"):
        read_image_tensor(tmp_path / "a.pt")
    np.testing.assert_array_equal(read_image_tensor(tmp_path / "a.pt", "imagenet"), np.rint(smooth))
    with pytest.raises(DataError, match="which images normalised for clip cannot have"):
        read_image_tensor(tmp_path / "a.pt", "clip")


def test_few_levels_of_grey_are_no_normalised_pixels(tmp_path):
    torch.save(torch.from_numpy(images() % 3).float(), tmp_path / "a.pt")
    np.testing.assert_array_equal(read_image_tensor(tmp_path / "a.pt"), images() % 3)


def test_a_tensor_that_repeats_its_values_is_written_out(tmp_path):
    grey = torch.from_numpy(images()[..., :1]).permute(0, 3, 1, 2)
    torch.save(grey.expand(-1, 3, -1, -1), tmp_path / "a.pt")
    np.testing.assert_array_equal(read_image_tensor(tmp_path / "a.pt"), np.repeat(images()[..., :1], 3, axis=3))
    film = torch.arange(60, dtype=torch.uint8).reshape(10, 6).repeat_interleave(3, dim=1).reshape(10, 6, 3)
    torch.save(film.unfold(0, 4, 1).permute(0, 3, 1, 2), tmp_path / "b.pt")  # 7 windows, each begins a row later
    np.testing.assert_array_equal(read_image_tensor(tmp_path / "b.pt")[3], film[3 : 3 + 4].numpy())


@pytest.mark.parametrize(("n_stored", "times"), [(3, 65), (8_000_000, 32)], ids=["too often", "too large"])
def test_a_tensor_that_repeats_its_values_too_much_is_refused(tmp_path, n_stored, times):
    torch.save(torch.zeros(1, 1, 1, n_stored).expand(times, -1, -1, -1), tmp_path / "a.pt")
    sentence = (
        f"{4 * n_stored:,} bytes for {4 * n_stored * times:,} bytes of values, which .* Save tensor\\.contiguous\\(\\)"
    )
    with pytest.raises(DataError, match=sentence):
        read_image_tensor(tmp_path / "a.pt")


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.mark.parametrize("write", [torch.save, lambda trap, file: file.write_bytes(pickle.dumps(trap))])
def test_a_tensor_file_runs_nothing(tmp_path, write):
    write(Trap(tmp_path / "sprung"), tmp_path / "a.pt")
    with pytest.raises(DataError, match="was not opened"):
        read_image_tensor(tmp_path / "a.pt")
    assert not (tmp_path / "sprung").exists()


def test_tensors_stand_in_for_video_files(make_clips, run, tmp_path):
    root = make_clips({"1_1": 1, "1_2": 2, "1_3": 3})
    for name in ("1_1", "1_2", "1_3"):
        for n in (5, 75):
            torch.save(torch.from_numpy(images(n)).permute(0, 3, 1, 2), root / f"Train/{name}.mp4.img.{n}.pt")
    (root / "Train/1_1.mp4").unlink()
    (root / "Train/1_2.mp4").unlink()
    torch.save(torch.from_numpy(images(74)), root / "Train/1_2.mp4.img.75.pt")
    summary, store = run(root, "hog")
    assert summary.done == ["1_1", "1_3"] and list(summary.failed) == ["1_2"]
    assert "1_2.mp4.img.75.pt holds 74 frames, but its name says 75" in summary.broken_frames[0]
    found = store.read("hog", "1_1")
    assert found.fps == 15  # 75 rows in the 5 s of a clip
    np.testing.assert_array_equal(found.values, hog_of(list(images(75))))
    assert store.read("hog", "1_3").fps == pytest.approx(37.5)  # the video file goes before the tensor


# synthetic clips


def test_synthetic_clips(make_clips, run, numbered, make_crops):
    root = make_clips({"1_1": 1})
    place = root / "synthetic"
    numbered.write(place / "synt-positive-0001.mp4", 30)
    numbered.write(place / "Negative/grim.mp4", 30)
    make_crops(place / "synt-neutral-0001", 75)
    torch.save(torch.from_numpy(images(5)), place / "synt-negative-0001.synt.img.5.pt")
    (place / "Positive_labels.txt").write_text("Vid_name Label\nsynt-positive-0001 1\n")
    (place / "Neutral_labels.txt").write_text("synt-neutral-0001\n")
    (root / "Negative_labels.txt").write_text("synt-negative-0001.synt Negative\n")
    summary, store = run(root, "hog")
    assert summary.ok and store.labels("vgaf", "train").keys() == {"1_1"}
    assert {name: one.rows.item() for name, one in store.labels("vgaf", "synthetic").items()} == {
        "synt-positive-0001": 0, "synt-neutral-0001": 1, "synt-negative-0001": 2, "grim": 2
    }  # fmt: skip
    videos = store.videos("hog")
    assert {name: (attrs["n_frames"], attrs["fps"]) for name, attrs in videos.items() if name != "1_1"} == {
        "synt-positive-0001": (75, 75.0), "synt-neutral-0001": (75, 15.0), "synt-negative-0001": (5, 1.0),
        "grim": (75, 75.0),
    }  # fmt: skip
    (place / "Neutral_labels.txt").write_text("synt-neutral-0001 3\n")
    assert any("line 1: the clips of this file are Neutral, found '3'" in remark.sentence
               for remark in open_vgaf(root, None).remarks)  # fmt: skip


def test_tensors_of_the_authors_are_read_as_they_lie(tmp_path, run, run_cli):
    root = tmp_path / "data"
    names = write_emotiw(root)
    summary, store = run(root, "hog", "spectrogram")
    assert summary.ok and sorted(summary.done) == sorted(names)
    assert {name: (one.split, one.rows.item()) for name, one in store.labels("vgaf").items()} == {
        **{f"T_{k}": ("train", k - 1) for k in (1, 2, 3)}, **{f"V_{k}": ("val", k - 1) for k in (1, 2, 3)},
        "Positive-clip_1": ("synthetic", 0), "Neutral-clip_1": ("synthetic", 1), "Negative-clip_1": ("synthetic", 2),
    }  # fmt: skip
    for seed, name in enumerate(names):
        if seed % 4 == 0:
            np.testing.assert_array_equal(store.read("hog", name).values, hog_of(list(images(7, seed))))
        found = store.read("spectrogram", name)
        np.testing.assert_array_equal(found.values, spectrograms(7, seed).numpy())
        assert found.fps == pytest.approx(7 / 5) and found.present.all()
    assert sorted(run(root, "hog", "spectrogram")[0].skipped) == sorted(names)
    result = run_cli("doctor", "--data", root, "--json")
    reports = json.loads(result.output[result.output.index("{") :])["per_video"]
    assert result.exit_code == 0 and {report["video"] for report in reports} == set(names)
    assert not any(report["warnings"] or report["errors"] for report in reports)


def test_numbers_of_frames_are_chosen(tmp_path, run):
    root = tmp_path / "data"
    write_emotiw(root)
    (root / "VGAF_Tensors_all_5/Train/T_1.mp4.spec.5.pt").unlink()
    summary, store = run(root, "spectrogram", n_frames=5)
    assert len(summary.done) == 8 and list(summary.failed) == ["T_1"]
    assert "no .spec tensor of 5 frames of clip T_1, but of 7. Choose one with --n-frames" in summary.failed["T_1"]
    np.testing.assert_array_equal(store.read("spectrogram", "T_2").values, spectrograms(5, 1).numpy())
    assert store.read("spectrogram", "T_2").fps == 1
    (root / "VGAF_Tensors_all_5/Train/T_1.mp4.img.5.pt").unlink()
    summary, store = run(root, "hog", n_frames=5)
    assert "no .img tensor of 5 frames of clip T_1, but of 7" in summary.failed["T_1"] and len(summary.done) == 8
    np.testing.assert_array_equal(store.read("hog", "T_2").values, hog_of(list(images(5, 1))))


def test_a_video_file_gives_as_many_rows_as_are_asked_for(make_clips, run):
    root = make_clips({"1_1": 1}, n_frames=150)
    found = run(root, "hog", n_frames=5)[1].read("hog", "1_1")
    np.testing.assert_array_equal(found.values, hog_of(decoded(root / "Train/1_1.mp4")[15::30]))


def test_spectrograms_that_are_no_input_of_the_network_are_refused(tmp_path, run):
    root = tmp_path / "data"
    write_emotiw(root)
    place = root / "VGAF_Tensors_all_7/Train"
    torch.save(torch.zeros(7, 3, 128, 128), place / "T_1.mp4.spec.7.pt")
    torch.save(torch.zeros(7, 64, 128), place / "T_2.mp4.spec.7.pt")
    torch.save(torch.zeros(6, 128, 128), place / "T_3.mp4.spec.7.pt")
    summary, _ = run(root, "spectrogram")
    words = {
        "T_1": r"shape (7, 3, 128, 128); spectrograms are (N, 1, bands, steps)",
        "T_2": "spectrograms of shape (1, 64, 128) and there is no sound; spectrogram has the shape (1, 128, 128)",
        "T_3": "holds 6 spectrograms, but its name says 7",
    }
    assert summary.failed.keys() == words.keys()
    assert all(words[name] in sentence for name, sentence in summary.failed.items())


@pytest.mark.parametrize("home", [".", "synthetic"])
def test_what_the_generator_of_the_authors_writes_is_a_data_set(tmp_path, run, home):
    """Frames from 0, and clips of one name in several classes."""
    for seed, label in enumerate(("Positive", "Negative")):
        folder = tmp_path / home / label / "group_Video_0"
        folder.mkdir(parents=True)
        for number, picture in enumerate(images(3, seed)):
            Image.fromarray(picture).save(folder / f"{number}.png")
    summary, store = run(tmp_path, "hog")
    assert summary.ok and store.labels("vgaf", "synthetic").keys() == {
        "Positive-group_Video_0",
        "Negative-group_Video_0",
    }
    for seed, (label, number) in enumerate((("Positive", 0), ("Negative", 2))):
        found = store.read("hog", f"{label}-group_Video_0")
        np.testing.assert_array_equal(found.values, hog_of(list(images(3, seed))))
        assert found.fps == pytest.approx(3 / 5)
        assert store.labels("vgaf")[f"{label}-group_Video_0"].rows.item() == number


# doctor and demo


def test_doctor_counts_what_has_no_partner(make_clips, run_cli):
    root = make_clips({"1_1": 1, "1_2": 2, "1_3": 3}, n_frames=4)
    (root / "Train/1_2.mp4").unlink()
    (root / "Train/1_3.mp4").rename(root / "Train/1_4.mp4")
    result = run_cli("doctor", "--data", root, "--json")
    found = json.loads(result.output[result.output.index("{") :])
    assert result.exit_code == 0 and found["total"]["labels"]["vgaf"]["labels_without_crop"] == 2
    notes = {report["video"]: report["warnings"] for report in found["per_video"]}
    assert notes["1_2"] == ["Train_labels.txt labels this clip, but the clip is missing"]
    assert ["1 clips have no label, such as 1_4"] in notes.values()


def test_the_demo(tmp_path, run):
    root = tmp_path / "demo"
    write_vgaf_demo(root, "tiny", seed=3, workers=1)
    assert len([path for path in root.rglob("*") if path.is_file()]) == 14
    for name in ("Train_labels.txt", "Val_labels.txt"):
        header, *lines = (root / name).read_text().splitlines()
        assert header == "Vid_name Label"
        assert sorted(line.split()[1] for line in lines) == ["1", "1", "2", "2", "3", "3"]
    summary, store = run(root, "hog", "spectrogram")
    assert summary.ok and not summary.without_sound and len(summary.done) == 12
    assert store.read("spectrogram", "1_1").present.all()
    frames = decoded(root / "Train/1_1.mp4")
    assert np.shape(frames) == (50, 180, 320, 3)
    (root / "Train/1_1.mp4").rename(root / "before.mp4")
    (root / PARTIAL).mkdir()
    write_clip(root, plan_clips("tiny", seed=3)[0])  # the same seed gives the same frames and sound
    assert (root / "Train/1_1.mp4").read_bytes() == (root / "before.mp4").read_bytes()


def test_the_plan_of_the_demo():
    assert n_frames_of("tiny") == 12 * 50 and len(plan_clips("small")) == 45
    assert [clip.split for clip in plan_clips("small")].count("val") == 15
    with pytest.raises(UsageError, match=r"Unknown demo size 'huge'\. Choose one of: tiny, small"):
        plan_clips("huge")
