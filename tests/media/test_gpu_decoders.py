"""Decoders for a GPU: what they decode is the processor's pictures, file by file; the rest is left to the processor.

torchcodec runs on the CPU here, where its pictures are the same to the bit. `tests/gpu` has the GPU.
"""

import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from abaw.core.errors import DataError, UsageError
from abaw.media import decoders
from abaw.media.decoders import PROCESSOR, TorchcodecDecoder
from abaw.media.pictures import SHORTER_SIDE_PX
from abaw.media.stamps import read_stamps
from abaw.store import FeatureStore
from abaw.tests.support.images import draw_noise
from abaw.tests.support.paths import DATA


@pytest.fixture(scope="module")
def codec():
    try:
        return TorchcodecDecoder(torch.device("cpu"))
    except UsageError as error:
        pytest.skip(str(error))


def as_jpeg(image: Image.Image, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, "JPEG", **options)
    return content.getvalue()


def test_images_are_those_of_the_processor(codec):
    noise = Image.fromarray(draw_noise(1, 112))
    turned, png = Image.Exif(), io.BytesIO()
    turned[0x0112] = 6
    noise.save(png, "PNG")
    plain = as_jpeg(noise)
    contents = {
        "plain": plain,
        "small": as_jpeg(noise.resize((48, 40))),
        "grey": as_jpeg(noise.convert("L")),
        "progressive": as_jpeg(noise, progressive=True),
        "turned": as_jpeg(noise.resize((48, 40)), exif=turned),
        "cmyk": as_jpeg(noise.convert("CMYK")),
        "png": png.getvalue(),
        "cut": plain[:-500],
        "empty": b"",
    }
    arguments = list(contents), list(contents.values())
    found, wanted = (dict(zip(contents, one.images(*arguments), strict=True)) for one in (codec, PROCESSOR))
    for name in contents:
        if name in ("cut", "empty"):
            assert (
                isinstance(found[name], DataError)
                and str(found[name]) == str(wanted[name])
                and name in str(found[name])
            )
        else:
            np.testing.assert_array_equal(found[name].image, wanted[name].image, err_msg=name)
            assert found[name].by_processor is (name in ("turned", "cmyk", "png")), name
    assert found["turned"].image.shape == (48, 40, 3)


def test_one_damaged_image_costs_no_other(codec):
    plain = as_jpeg(Image.fromarray(draw_noise(1, 112)))
    # as it begins and ends, it looks whole
    damaged = plain[:300] + b"\xff\xc4\x00\x08broken" + plain[1500:]
    found = codec.images(["a", "b"], [plain, damaged])
    np.testing.assert_array_equal(found[0].image, PROCESSOR.images(["a"], [plain])[0].image)
    assert isinstance(found[1], DataError) == isinstance(PROCESSOR.images(["b"], [damaged])[0], DataError)


@pytest.mark.parametrize(
    ("name", "by_processor"), [("edit_list.mp4", False), ("variable_rate.mkv", False), ("hidden_frames.webm", True)]
)
def test_pictures_of_videos_are_those_of_the_processor(codec, name, by_processor):
    file = DATA / "media" / name
    shown_s = read_stamps(file).times_s()
    times_s = np.sort(
        [
            shown_s[0] - 1,
            *shown_s[::3],
            *shown_s[5:9],
            *(shown_s[::7] + 0.004),
            *(shown_s[3::7] - 0.0005),
            shown_s[-1] + 0.01,
            1e4,
        ]
    )
    found, wanted = (one.pictures_at(file, times_s.tolist(), 100) for one in (codec, PROCESSOR))
    assert len(found) == len(wanted) == len(times_s) - 1
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
    assert {one.by_processor for one in found} == {by_processor}


@pytest.mark.parametrize(("name", "by_processor"), [("edit_list.mp4", False), ("hidden_frames.webm", True)])
def test_all_pictures_of_videos_are_those_of_the_processor(codec, name, by_processor, tmp_path):
    file, notes = DATA / "media" / name, [[], []]
    found, wanted = (list(one.pictures(file, 60, said)) for one, said in zip((codec, PROCESSOR), notes, strict=True))
    assert len(found) == len(wanted) > 50 and notes[0] == notes[1]
    for (one, is_fallback), (other, _) in zip(found, wanted, strict=True):
        assert one[:2] == other[:2] and is_fallback is by_processor
        np.testing.assert_array_equal(one.image, other.image)


def test_features_of_videos_say_which_the_processor_decoded(codec, tmp_path, run_cli, monkeypatch):
    (tmp_path / "videos").mkdir()
    for name in ("edit_list.mp4", "hidden_frames.webm"):
        shutil.copy(DATA / "media" / name, tmp_path / "videos")
    words = (
        "extract",
        "--backbone",
        "hog",
        "--from",
        "videos",
        "--faces",
        "whole",
        "--device",
        "cpu",
        "--data",
        tmp_path,
    )
    assert run_cli(*words, "--store", tmp_path / "cpu.zarr").exit_code == 0
    for module in ("decoding", "stage"):
        monkeypatch.setattr(f"abaw.extract.{module}.decoder_on", lambda device: codec)
    done = run_cli(*words, "--store", tmp_path / "gpu.zarr", "--decoder", "gpu")
    assert done.exit_code == 0 and "The processor decoded 100 frames of 1 videos, such as hidden_frames" in done.output
    on_gpu, on_cpu = (FeatureStore.open(tmp_path / f"{name}.zarr") for name in ("gpu", "cpu"))
    assert on_gpu.feature_record("hog")["decoder"] == "gpu"
    for video, n_frames in (("edit_list", None), ("hidden_frames", 100)):
        np.testing.assert_array_equal(on_gpu.read("hog", video).values, on_cpu.read("hog", video).values)
        assert on_gpu.video_attrs("hog", video).get("by_processor") == n_frames


def test_a_video_that_breaks_off_is_continued_by_the_processor(codec, monkeypatch):
    file, decode = DATA / "media" / "edit_list.mp4", TorchcodecDecoder._some

    def fail(self, decoder, shown_s, numbers, shorter_side):
        if numbers[0] >= 32:
            raise RuntimeError("no more")
        return decode(self, decoder, shown_s, numbers, shorter_side)

    monkeypatch.setattr(TorchcodecDecoder, "_some", fail)
    read = list(codec.pictures(file, 60, []))
    assert [picture.number for picture, _ in read] == list(range(70))
    assert [is_fallback for _, is_fallback in read] == [False] * 32 + [True] * 38


def test_turned_and_broken_videos_are_left_to_the_processor(codec, numbered, tmp_path):
    turned = numbered.write(tmp_path / "turned.mp4", rotation=90)
    found = codec.pictures_at(turned, [0.1, 0.2], SHORTER_SIDE_PX)
    assert [one.by_processor for one in found] == [True, True] and found[0].image.shape == (128, 64, 3)
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video" * 99)
    with pytest.raises(DataError, match=r"broken\.mp4"):
        codec.pictures_at(broken, [0.1], SHORTER_SIDE_PX)


def test_torchcodec_has_to_be_there(monkeypatch):
    monkeypatch.setattr(decoders, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs torchcodec.*pip install '\.\[gpu\]'"):
        TorchcodecDecoder(torch.device("cuda"))
    monkeypatch.undo()
    monkeypatch.setattr(decoders, "find_spec", lambda name: True)

    def fail(name: str) -> None:
        raise RuntimeError("Could not load libtorchcodec. Likely causes: FFmpeg is not there")

    monkeypatch.setattr(decoders, "import_module", fail)
    with pytest.raises(UsageError, match=r"cannot be loaded \(Could not load libtorchcodec"):
        TorchcodecDecoder(torch.device("cuda"))
