"""Extraction: rows match frames, batches are shared, broken input costs what it has to, finished work is kept."""

import os
import shutil
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
import torch
from torch import Tensor, nn

from abaw.backbones import registry
from abaw.backbones.backbone import create_backbone
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.core.progress import Summary
from abaw.extract.stage import Stage
from abaw.media import decoders
from abaw.media.images import read_image
from abaw.pipeline import ExtractOptions, extract
from abaw.store import FeatureStore

VA = "VA_Estimation_Challenge/Train_Set"


class Means(nn.Module):
    """The mean of each colour; remembers the batches that it saw. Makes nothing finite out of white images."""

    def __init__(self, batches: list[Tensor]) -> None:
        super().__init__()
        self.batches = batches

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        self.batches.append(images.clone())
        means = images.float().mean((2, 3))
        means[means.min(1).values > 0.99] = float("nan")
        return {"mean": means, "twice": 2 * means}


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Registers `colour-mean` and `colour-twice`, outputs of one network; what went into it."""
    registry.list_specs()  # plug-ins are loaded before the registry is copied
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    seen: list[Tensor] = []
    image = ImageInput(16, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), interpolation="bilinear")
    specs = tuple(
        BackboneSpec(f"colour-{output}", "colour", output, "vision", (3,), "mean colour", "none", image)
        for output in ("mean", "twice")
    )
    registry.register(registry.Family("colour", specs, lambda specs, file: Means(seen)))
    return seen


@pytest.fixture
def run(tmp_path):
    """Extracts on the CPU into `tmp_path/store.zarr`; gives the summary and the store."""

    def run(root, *backbones, **options):
        place = tmp_path / "store.zarr"
        summary = extract(ExtractOptions(root, place, backbones, device="cpu", **options))
        return summary, FeatureStore.open(place)

    return run


def colours(file: Path) -> np.ndarray:
    return read_image(file).mean((0, 1)) / 255


def spoil(file: Path, how: str) -> None:
    content = file.read_bytes()
    file.write_bytes({"truncated": content[:700], "text": b"I am a text file.\n", "empty": b""}[how])


# values


def test_rows_match_the_frames_and_rates_of_the_sample(sample, run):
    summary, store = run(sample, "hog")
    assert summary.ok and sorted(summary.done) == ["face_noface", "single_face"]
    found = {video: store.read("hog", video) for video in summary.done}
    assert {video: one.values.shape for video, one in found.items()} == {
        "face_noface": (169, 1764), "single_face": (72, 1764)
    }  # fmt: skip
    assert np.flatnonzero(~found["face_noface"].present).tolist() == list(range(72, 169))  # 97 absent rows
    assert found["single_face"].present.all()
    assert (found["face_noface"].fps, found["single_face"].fps) == (pytest.approx(26.398, abs=1e-3), 30.0)
    np.testing.assert_array_equal(found["face_noface"].values[72:], 0)
    hog = create_backbone("hog")
    for video, one in found.items():
        for frame in (1, 37, 72):
            image = read_image(sample / f"cropped_aligned/{video}/{frame:05}.jpg")
            alone = hog(hog.preprocess(torch.from_numpy(image[None]))).numpy()[0]
            np.testing.assert_array_equal(one.values[frame - 1], alone.astype(np.float16))


def test_frames_are_joined_by_their_number(make_data, run, batches):
    root = make_data({"a": [2, 3, 7, 100001]})
    _, store = run(root, "colour-mean")
    found = store.read("colour-mean", "a")
    assert np.flatnonzero(found.present).tolist() == [1, 2, 6, 100000]
    for frame in (2, 3, 7, 100001):
        expected = colours(root / f"cropped_aligned/a/{frame:05}.jpg")
        np.testing.assert_allclose(found.values[frame - 1], expected, atol=0.01)


def test_a_length_that_is_the_last_crops_is_marked_until_the_video_file_is_there(make_data, run, numbered):
    root = make_data({"a": [1, 4], "film": 2})
    numbered.write(root / "videos/film.mp4", n_frames=10)
    _, store = run(root, "hog", "spectrogram")
    kept = {"fps", "source", "precision", "n_frames", "n_present", "dtype", "abaw", "complete", "checksum"}
    own = {"hog": {"content"}, "spectrogram": set()}
    for feature in ("hog", "spectrogram"):
        found = store.videos(feature)
        assert (found["a"]["n_frames"], found["film"]["n_frames"]) == (4, 10)
        of_file = {"clock", "content"}  # of the crops, or of the sound in the video file
        assert set(found["film"]) == {*kept, *of_file}
        assert (
            set(found["a"]) == {*kept, *own[feature], "length_from_crops"} and found["a"]["length_from_crops"] is True
        )
    numbered.write(root / "videos/a.mp4", n_frames=6)
    summary, store = run(root, "hog", "spectrogram")
    assert (summary.done, summary.skipped) == (["a"], ["film"])
    for feature in ("hog", "spectrogram"):
        of_file = {"clock", "content"}
        assert set(store.videos(feature)["a"]) == {*kept, *of_file} and store.videos(feature)["a"]["n_frames"] == 6


def test_the_mirrored_view_is_the_feature_of_mirrored_images(sample, run, tmp_path):
    _, store = run(sample, "hog", views=("hflip",))
    assert store.features() == ["hog", "hog@hflip"]
    hog = create_backbone("hog")
    images = np.stack([read_image(sample / f"cropped_aligned/single_face/{n:05}.jpg")[:, ::-1] for n in (1, 50)])
    expected = hog(hog.preprocess(torch.from_numpy(images))).numpy().astype(np.float16)
    np.testing.assert_array_equal(store.read("hog@hflip", "single_face").values[[0, 49]], expected)
    plain = store.read("hog", "single_face")
    assert not np.array_equal(plain.values, store.read("hog@hflip", "single_face").values)
    assert store.feature_attrs("hog")["fingerprint"] != store.feature_attrs("hog@hflip")["fingerprint"]


def test_images_of_mixed_sizes_each_give_their_own_feature(make_data, make_crops, run, batches):
    root = make_data({"a": 6})
    for number, size in ((2, 48), (4, 300), (5, 48)):
        make_crops(root / "cropped_aligned/a", [number], seed=9, size=size)
    summary, store = run(root, "colour-mean", batch_size=4)
    assert summary.ok
    expected = [colours(root / f"cropped_aligned/a/{n:05}.jpg") for n in range(1, 7)]
    np.testing.assert_allclose(store.read("colour-mean", "a").values, expected, atol=0.02)


def test_the_features_do_not_depend_on_batch_size_and_company(make_data, tmp_path):
    root = make_data({"a": 11, "b": 3, "c": 20})
    stores = []
    for batch_size in (1, 7, 64):
        place = tmp_path / f"{batch_size}.zarr"
        extract(ExtractOptions(root, place, ("hog",), device="cpu", batch_size=batch_size))
        stores.append(FeatureStore.open(place))
    for video in "abc":
        first, *others = (store.read("hog", video).values for store in stores)
        for other in others:
            np.testing.assert_array_equal(first, other)


# sharing


def test_several_backbones_and_views_decode_each_frame_once(make_data, run, batches, monkeypatch):
    root = make_data({"a": 5, "b": 40})
    calls: Counter[str] = Counter()
    real = decoders.read_image

    def counting(file, content):
        calls[str(file)] += 1
        return real(file, content)

    monkeypatch.setattr(decoders, "read_image", counting)
    _, store = run(root, "hog", "colour-mean", "colour-twice", views=("hflip",))
    assert len(store.features()) == 6
    assert len(calls) == 45 and set(calls.values()) == {1}


def test_outputs_of_one_family_share_one_pass(make_data, run, batches):
    _, store = run(make_data({"a": 4}), "colour-mean", "other=colour-twice", batch_size=4)
    assert len(batches) == 1
    np.testing.assert_allclose(2 * store.read("colour-mean", "a").values, store.read("other", "a").values, rtol=1e-3)


def test_frames_of_many_videos_share_full_batches(make_data, run, batches):
    root = make_data(dict.fromkeys("abcdefg", 3))
    summary, store = run(root, "colour-mean", batch_size=8)
    assert [len(batch) for batch in batches] == [8, 8, 8]  # 21 frames; the last batch is filled up
    assert summary.n_frames == 21 and len(summary.done) == 7
    for name in "abcdefg":
        expected = [colours(root / f"cropped_aligned/{name}/{n:05}.jpg") for n in (1, 2, 3)]
        np.testing.assert_allclose(store.read("colour-mean", name).values, expected, atol=0.01)


# broken input


@pytest.mark.parametrize("how", ["truncated", "text", "empty"])
def test_a_broken_image_costs_its_frame(make_data, run, how):
    root = make_data({"a": 6, "b": 2})
    spoil(root / "cropped_aligned/a/00004.jpg", how)
    summary, store = run(root, "hog")
    assert not summary.ok and sorted(summary.done) == ["a", "b"] and not summary.failed
    (sentence,) = summary.broken_frames
    assert "a/00004.jpg" in sentence and "Replace or delete it" in sentence
    assert store.read("hog", "a").present.tolist() == [True] * 3 + [False] + [True] * 2
    np.testing.assert_array_equal(store.read("hog", "a").values[3], 0)


def test_a_broken_image_is_told_of_by_each_run_until_it_is_replaced(make_data, run):
    root = make_data({"a": 5, "b": 2})
    file = root / "cropped_aligned/a/00003.jpg"
    image = file.read_bytes()
    file.write_bytes(bytes(len(image)))
    for done, skipped in ((["a", "b"], []), ([], ["a", "b"]), ([], ["a", "b"])):
        summary, store = run(root, "hog", "spectrogram")
        assert (sorted(summary.done), summary.skipped) == (done, skipped) and not summary.ok
        assert len(summary.broken_frames) == 1 and "a/00003.jpg is not an image" in summary.broken_frames[0]
        assert store.read("hog", "a").present.tolist() == [True, True, False, True, True]
    summary, _ = run(root, "hog", "other=hog")
    assert len(summary.broken_frames) == 1, "what one feature has to read anyway is told once"
    file.write_bytes(image)
    summary, store = run(root, "hog", "spectrogram")
    assert (summary.done, summary.skipped, summary.n_frames) == (["a"], ["b"], 5) and summary.ok
    assert store.read("hog", "a").present.all()
    summary, _ = run(root, "hog", "spectrogram")
    assert summary.skipped == ["a", "b"] and summary.ok and not summary.n_frames


def test_one_of_two_broken_images_that_is_replaced_is_read(make_data, run):
    root = make_data({"a": 5})
    files = [root / "cropped_aligned/a" / name for name in ("00002.jpg", "00004.jpg")]
    images = [file.read_bytes() for file in files]
    for file, image in zip(files, images, strict=True):
        file.write_bytes(bytes(len(image)))
    assert run(root, "hog")[0].done == ["a"] and run(root, "hog")[0].skipped == ["a"]
    files[0].write_bytes(images[0])
    summary, store = run(root, "hog")
    assert summary.done == ["a"] and len(summary.broken_frames) == 1
    assert store.read("hog", "a").present.tolist() == [True, True, True, False, True]


def test_a_clip_that_is_cut_off_is_told_of_by_each_run_until_it_is_replaced(tmp_path, numbered, run):
    root = tmp_path / "data"
    root.mkdir()
    (root / "Train_labels.txt").write_text("Vid_name Label\n1_1 1\n")
    file = numbered.write(root / "Train" / "1_1.mp4", n_frames=150)
    content = file.read_bytes()
    start = content.index(b"mdat")
    n_kept = start + (len(content) - start) // 2
    file.write_bytes(content[:n_kept] + bytes(len(content) - n_kept))
    for done, skipped in ((["1_1"], []), ([], ["1_1"])):
        summary, store = run(root, "hog")
        assert (summary.done, summary.skipped) == (done, skipped) and not summary.ok
        assert len(summary.broken_frames) == 1 and "1_1.mp4 is cut off" in summary.broken_frames[0]
        assert not store.read("hog", "1_1").present.all()
    file.write_bytes(content)
    summary, store = run(root, "hog")
    assert summary.done == ["1_1"] and summary.ok and store.read("hog", "1_1").present.all()
    assert run(root, "hog")[0].skipped == ["1_1"]


def test_what_another_one_finished_meanwhile_is_left_but_for_broken_images(make_data, run, tmp_path):
    data = make_data({"a": 4, "b": 3})
    (data / "cropped_aligned" / "a" / "00002.jpg").write_bytes(b"no image")
    options = ExtractOptions(data, tmp_path / "store.zarr", ("hog",), device="cpu")
    stage, summary, steps = Stage.open(options), Summary(), []
    plan = stage.plan(summary)
    assert extract(options).done == ["a", "b"]
    stage.run(plan.groups, summary, lambda n, note="": steps.append(n))
    assert (summary.done, summary.skipped) == (["a"], ["b"]) and sum(steps) == plan.n_frames - 1  # the broken one
    assert len(summary.broken_frames) == 1 and "a/00002.jpg is not an image" in summary.broken_frames[0]


def test_a_video_of_broken_images_or_none_fails_alone(make_data, run, run_cli, tmp_path):
    root = make_data({"a": 2, "b": 3, "c": 3})
    for file in (root / "cropped_aligned/b").iterdir():
        spoil(file, "text")
    (root / "cropped_aligned/empty").mkdir()
    result = run_cli("extract", "--backbone", "hog", "--data", root, "--store", tmp_path / "store.zarr")
    assert result.exit_code == 1
    assert "done 2, skipped 0, failed 2" in result.stdout
    assert "2 failed videos:" in result.stderr and "b: none of its frames could be read" in result.stderr
    assert "empty: " in result.stderr and "3 frames left out" in result.stderr
    store = FeatureStore.open(tmp_path / "store.zarr")
    assert list(store.videos("hog")) == ["a", "c"] and store.incomplete("hog") == []


def test_output_that_is_not_finite_fails_its_video_alone(make_data, run, batches):
    from PIL import Image

    root = make_data({"a": 3, "b": 3, "c": 3})
    Image.new("RGB", (112, 112), "white").save(root / "cropped_aligned/b/00002.jpg", quality=95)
    summary, store = run(root, "colour-mean", batch_size=16)
    assert list(summary.failed) == ["b"] and "frame 2 is not finite" in summary.failed["b"]
    assert list(store.videos("colour-mean")) == ["a", "c"]
    assert np.isfinite(store.read("colour-mean", "c").values).all()


def test_broken_labels_and_names_are_told_and_cost_nothing_else(make_data, make_labels, run):
    root = make_data({"a": 2, "b": 2})
    make_labels(root, VA, "a", "valence,arousal", "0.5,-5", "-1,1", "0,0")
    make_labels(root, VA, "b", "valence,arousal", "0.5,7")
    summary, store = run(root, "hog")
    assert sorted(summary.done) == ["a", "b"] and not summary.ok
    assert len(summary.label_errors) == 1 and "b.txt line 2" in summary.label_errors[0]
    found = store.labels("va")
    assert list(found) == ["a"] and found["a"].split == "train"
    np.testing.assert_array_equal(found["a"].rows, np.array([[0.5, -5], [-1, 1], [0, 0]], np.float32))


# again


def test_what_is_complete_is_skipped_and_what_changed_is_made_again(make_data, make_crops, run, batches):
    root = make_data({"a": 3, "b": 3})
    run(root, "colour-mean")
    del batches[:]
    summary, _ = run(root, "colour-mean")
    assert summary.ok and sorted(summary.skipped) == ["a", "b"] and batches == []
    make_crops(root / "cropped_aligned/b", 5, seed=77)
    summary, store = run(root, "colour-mean")
    assert (summary.done, summary.skipped, summary.n_frames) == (["b"], ["a"], 5)
    assert store.read("colour-mean", "b").values.shape == (5, 3)
    expected = colours(root / "cropped_aligned/b/00001.jpg")
    np.testing.assert_allclose(store.read("colour-mean", "b").values[0], expected, atol=0.01)


def replace_kept(file: Path, content: bytes) -> None:
    """Put another file in place of one, of the same size and time, as `cp -p` and `touch -r` do."""
    times, other = file.stat(), file.with_suffix(".new")
    assert len(content) == times.st_size
    other.write_bytes(content)
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(file)


def other_crop(file: Path) -> bytes:
    """Another picture in as many bytes: a JPEG may be followed by anything."""
    image = 255 - read_image(file)
    size = file.stat().st_size
    for quality in range(95, 5, -5):
        content = simplejpeg.encode_jpeg(image, quality, colorsubsampling="420")
        if len(content) <= size:
            return content + bytes(size - len(content))
    raise AssertionError("no JPEG is small enough")


@pytest.mark.parametrize("n_replaced", [1, 3])
def test_crops_that_were_replaced_by_ones_of_the_same_size_and_time_are_read(make_data, run, batches, n_replaced):
    root = make_data({"a": 3, "b": 3})
    run(root, "colour-mean")
    files = sorted((root / "cropped_aligned/b").iterdir())
    for file in files[:n_replaced]:
        replace_kept(file, other_crop(file))
    summary, store = run(root, "colour-mean")
    assert (summary.done, summary.skipped) == (["b"], ["a"])
    expected = [colours(file) for file in files]
    np.testing.assert_allclose(store.read("colour-mean", "b").values, expected, atol=0.01)
    assert run(root, "colour-mean")[0].skipped == ["a", "b"]


def test_crops_that_were_copied_or_rewritten_as_they_are_do_not_count_as_changed(make_data, run, batches, tmp_path):
    root = make_data({"a": 3, "b": 3})
    run(root, "colour-mean")
    for file in (root / "cropped_aligned/b").iterdir():
        file.write_bytes(file.read_bytes())
    copy = Path(shutil.copytree(root, tmp_path / "copy"))
    assert run(root, "colour-mean")[0].skipped == run(copy, "colour-mean")[0].skipped == ["a", "b"]


def test_the_clock_of_crops_follows_a_video_that_was_replaced_by_one_of_the_same_size(make_data, run, numbered):
    root = make_data({"film": 2})
    file = root / "videos/film.mp4"
    numbered.write(file, n_frames=10, rate=10)
    numbered.write(root / "other.mp4", n_frames=10, rate=20)
    sizes = [path.stat().st_size for path in (file, root / "other.mp4")]
    for path, size in zip((file, root / "other.mp4"), sizes, strict=True):
        path.write_bytes(
            path.read_bytes() + struct.pack(">I4s", 8 + max(sizes) - size, b"free") + bytes(max(sizes) - size)
        )
    _, store = run(root, "hog")
    assert store.videos("hog")["film"]["fps"] == 10
    replace_kept(file, (root / "other.mp4").read_bytes())
    summary, store = run(root, "hog")
    assert summary.done == ["film"] and store.videos("hog")["film"]["fps"] == 20


def test_a_video_and_a_feature_are_added_later(make_data, run, batches):
    root = make_data({"a": 3, "b": 3})
    run(root, "colour-mean")
    make_data({"a": 3, "b": 3, "c": 4}, root)
    summary, _ = run(root, "colour-mean")
    assert (summary.done, sorted(summary.skipped)) == (["c"], ["a", "b"])
    summary, store = run(root, "colour-mean", "hog")
    assert sorted(summary.done) == ["a", "b", "c"] and store.features() == ["colour-mean", "hog"]
    make_data({"a": 3, "b": 3, "c": 4, "d": 2}, root)
    del batches[:]
    summary, store = run(root, "colour-mean", "hog", batch_size=2)
    assert summary.done == ["d"] and len(batches) == 1
    assert list(store.videos("hog")) == list(store.videos("colour-mean")) == ["a", "b", "c", "d"]


def test_a_frame_rate_that_is_said_later_reaches_the_store(make_data, run):
    root = make_data({"a": 3})
    run(root, "hog")
    _, store = run(root, "hog", fps=25.0)
    assert store.read("hog", "a").fps == 25.0


def test_crops_numbered_from_0_fail_their_video_also_where_it_was_complete(make_data, make_crops, run):
    root = make_data({"a": 3, "b": 3})
    make_crops(root / "cropped_aligned/a", [0])
    summary, store = run(root, "hog")
    words = "a/00000.jpg has the frame number 0; frames are numbered from 1. Correct the numbers of all images"
    assert not summary.ok and words in summary.failed["a"] and list(store.videos("hog")) == ["b"]
    make_crops(root / "cropped_aligned/b", [0])
    summary, _ = run(root, "hog")
    assert (sorted(summary.failed), summary.skipped, summary.done) == (["a", "b"], [], [])
    (root / "cropped_aligned/a/00000.jpg").unlink()
    summary, _ = run(root, "hog")
    assert (list(summary.failed), summary.done) == (["b"], ["a"])


def test_a_folder_without_crops_is_told_with_what_it_holds(make_data, make_crops, run):
    root = make_data({"a": 2})
    crops = root / "cropped_aligned"
    make_crops(crops / "doubled/b", 2)
    (crops / "empty").mkdir()
    (crops / "named").mkdir()
    for name in (".DS_Store", "frame_00001.jpg"):
        (crops / "named" / name).write_bytes(b"x")
    summary, _ = run(root, "hog")
    none = "has no files named <frame number>.jpg, such as 00001.jpg"
    assert summary.done == ["a"] and summary.failed == {
        "doubled": f"{crops / 'doubled'} has folders instead of crops, such as b. Move them up one level.",
        "empty": f"{crops / 'empty'} {none}; it is empty.",
        "named": f"{crops / 'named'} {none}; it holds frame_00001.jpg, for example.",
    }


def test_crops_after_the_end_of_the_video_file_are_a_warning(make_data, run, numbered):
    root = make_data({"a": 14})
    numbered.write(root / "videos/a.mp4", 10)
    summary, store = run(root, "hog")
    assert summary.ok and len(store.read("hog", "a").values) == 14
    assert summary.warnings == ["a: crops continue for 4 frames after the end of a.mp4: is it the right video?"]


# labels of videos that are gone


def test_labels_that_are_no_longer_in_the_data_are_told_of(make_data, make_labels, run):
    root = make_data(dict.fromkeys("abc", 2))
    for video in "abc":
        make_labels(root, VA, video, "valence,arousal", "0.5,0.5")
    make_labels(
        root,
        "EXPR_Classification_Challenge/Train_Set",
        "a",
        "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other",
        "1",
    )
    assert not [warning for warning in run(root, "hog")[0].warnings if "labels" in warning]
    (root / VA / "b.txt").unlink()
    (root / VA / "c.txt").rename(root / VA / "d.txt")
    (root / "EXPR_Classification_Challenge/Train_Set/a.txt").unlink()  # no expr labels at all: other data's, perhaps
    summary, store = run(root, "hog")
    assert [warning for warning in summary.warnings if "labels" in warning] == [
        f"The store has labels that are not in {root}: va of 2 videos (b, c). Training uses them: delete "
        f"{store.path}/labels/<task>/<video> if they should not count."
    ]
    assert summary.ok and sorted(store.labels("va")) == ["a", "b", "c", "d"] and sorted(store.labels("expr")) == ["a"]
    part, _ = run(root, "hog", part="1/2")
    assert not [warning for warning in part.warnings if "labels" in warning]


def test_many_labels_that_are_no_longer_in_the_data_are_counted(make_data, make_labels, run):
    root = make_data({"a": 2})
    for number in range(9):
        make_labels(root, VA, f"v{number}", "valence,arousal", "0.5,0.5")
    run(root, "hog")
    for number in range(8):
        (root / VA / f"v{number}.txt").unlink()
    (warning,) = [warning for warning in run(root, "hog")[0].warnings if "labels" in warning]
    assert "va of 8 videos (v0, v1, v2, v3, v4 and 3 more). Training" in warning
