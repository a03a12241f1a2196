"""Reading the official layout: crops, label files, splits, video files, frame rates."""

import io
import shutil
import struct
import zlib
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from abaw.core.errors import DataError
from abaw.core.tasks import TASKS
from abaw.datasets.crops import count_crops, describe_no_crops, has_stills, list_crops, list_stills
from abaw.datasets.layouts import open_dataset
from abaw.datasets.synth.cutouts import find_material, read_cutout
from abaw.media.decoder import open_media
from abaw.media.images import open_upright, read_image
from abaw.media.probe import probe_timing

VA, AU = "VA_Estimation_Challenge", "AU_Detection_Challenge"
OLD_EXPR, NEW_EXPR = "EXPR_Classification_Challenge", "EXPR_Recognition_Challenge"
VA_HEADER = "valence,arousal"
EXPR_HEADER = "Neutral,Anger,Disgust,Fear,Happiness,Sadness,Surprise,Other"
AU_HEADER = "AU1,AU2,AU4,AU6,AU7,AU10,AU12,AU15,AU23,AU24,AU25,AU26"


def write_film(file: Path, n_frames: int = 10, rate: Fraction = Fraction(25)) -> Path:
    """A real video file of grey pictures."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width = stream.height = 32
        for level in range(n_frames):
            picture = np.full((32, 32, 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file


def clock_of(root, name, fps=None):
    dataset = open_dataset(root, fps)
    video = next(video for video in dataset.videos if video.name == name)
    return dataset.open(video).clock()


# crops


@pytest.mark.parametrize("folder", ["cropped_aligned", "raw/images"])
def test_both_crop_folders(tmp_path, make_crops, folder):
    make_crops(tmp_path / folder / "b", 2)
    make_crops(tmp_path / folder / "a", 3)
    dataset = open_dataset(tmp_path)
    assert [video.name for video in dataset.videos] == ["a", "b"]
    assert [len(dataset.open(video).rows) for video in dataset.videos] == [3, 2]


def test_frames_are_ordered_by_number_whatever_their_digits(tmp_path, make_crops):
    make_crops(tmp_path, [99998, 99999, 100000, 100001, 2])
    (tmp_path / "00002.jpg").rename(tmp_path / "2.jpg")
    crops = list_crops(tmp_path)
    assert crops.numbers.tolist() == [2, 99998, 99999, 100000, 100001]
    assert crops.names == ("2.jpg", "99998.jpg", "99999.jpg", "100000.jpg", "100001.jpg")


def test_suffixes_of_all_formats_in_either_case(tmp_path, make_crops):
    make_crops(tmp_path, [1, 4])
    make_crops(tmp_path, [2], suffix=".png")
    make_crops(tmp_path, [3], suffix=".jpeg")
    (tmp_path / "00004.jpg").rename(tmp_path / "00004.JPG")
    with Image.open(tmp_path / "00002.png") as picture:
        picture.save(tmp_path / "00005.bmp")
        picture.save(tmp_path / "00006.WebP", lossless=True)
        picture.save(tmp_path / "00007.BMP")
    crops = list_crops(tmp_path)
    assert crops.numbers.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert (crops.ignored, count_crops(tmp_path), list_stills(tmp_path).names) == ((), 7, crops.names)
    assert [read_image(tmp_path / name).shape for name in crops.names] == [(112, 112, 3)] * 7
    for name in crops.names[4:]:
        np.testing.assert_array_equal(read_image(tmp_path / name), read_image(tmp_path / "00002.png"))


HUGE = "20231107123000.jpg"  # a date: arrays of so many frames fit nowhere


def test_what_is_no_crop_is_ignored_and_told(tmp_path, make_crops):
    make_crops(tmp_path, [1, 2])
    make_crops(tmp_path, [2], suffix=".png")
    for name in ("frame_00001.jpg", "face.jpg", "00003.txt", "00003.tif", "-0004.jpg", "00005.jpg.part", HUGE):
        (tmp_path / name).write_bytes(b"x")
    crops = list_crops(tmp_path)
    assert crops.names == ("00001.jpg", "00002.jpg")
    assert set(crops.ignored) == {
        "00002.png", "frame_00001.jpg", "face.jpg", "00003.txt", "00003.tif", "-0004.jpg", "00005.jpg.part", HUGE,
    }  # fmt: skip


def test_a_bitmap_counts_where_no_other_image_has_its_number(tmp_path):
    for name in ("1.bmp", "1.jpg", "2.bmp", "3.webp", "3.png", "4.jpg", "4.webp"):
        (tmp_path / name).write_bytes(b"x")
    crops = list_crops(tmp_path)
    assert crops.names == ("1.jpg", "2.bmp", "3.png", "4.jpg")
    assert set(crops.ignored) == {"1.bmp", "3.webp", "4.webp"}


def test_what_other_programs_leave_behind_is_neither_a_crop_nor_told(tmp_path, make_crops):
    make_crops(tmp_path, [1, 2])
    for name in (".DS_Store", "Thumbs.db", "._00001.jpg", ".00003.jpg", "desktop.ini"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    for crops in (list_crops(tmp_path), list_stills(tmp_path)):
        assert (crops.names, crops.ignored) == (("00001.jpg", "00002.jpg"), ())
    (tmp_path / "00001.jpg").unlink(), (tmp_path / "00002.jpg").unlink()
    assert (count_crops(tmp_path), has_stills(tmp_path)) == (0, False)
    assert describe_no_crops(list_crops(tmp_path)).endswith("such as 00001.jpg; it is empty.")


def test_what_other_programs_leave_behind_is_no_cutout(tmp_path, make_crops):
    for label in ("Positive", "Neutral", "Negative", "__MACOSX/Positive"):
        make_crops(tmp_path / "faces" / label, 1, suffix=".png")
        (tmp_path / "faces" / label / "._00001.png").write_bytes(b"x")
    (tmp_path / "faces/__MACOSX").rename(tmp_path / "faces/Neutral/__MACOSX")
    material = find_material(tmp_path / "faces", tmp_path / "faces")
    assert [len(files) for files in material.faces.values()] == [1, 1, 1]
    assert len(material.backgrounds) == 3


def test_png_values_are_read_as_rgb(tmp_path, make_crops):
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "1.png")
    np.testing.assert_array_equal(read_image(tmp_path / "1.png"), picture)


def write_png(file: Path, values: np.ndarray, bits: int, kind: int, transparent: bytes = b"") -> None:
    """A PNG made by hand.

    Args:
        values: (height, width, channels) of `bits` each.
        kind: 0 grey, 2 RGB, 3 palette of greys, 4 grey and alpha, 6 RGB and alpha.
    """
    height, width, _ = values.shape
    all_bits = np.unpackbits(values.reshape(height, -1, 1).astype(">u2").view(np.uint8), axis=2)[..., 16 - bits :]
    rows = np.packbits(all_bits.reshape(height, -1), axis=1)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    palette = bytes(np.repeat(np.linspace(255, 0, 1 << min(bits, 8)).astype(np.uint8), 3))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)), (b"IDAT", zlib.compress(lines))]
    chunks[1:1] = [(b"PLTE", palette)] * (kind == 3) + [(b"tRNS", transparent)] * bool(transparent)
    parts = [struct.pack(">I", len(data)) + name + data for name, data in [*chunks, (b"IEND", b"")]]
    checked = [part + struct.pack(">I", zlib.crc32(part[4:])) for part in parts]
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(checked))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("bits", "kind"),
    [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (1, 3), (2, 3), (4, 3), (8, 3), (8, 4), (16, 4), (8, 6), (16, 6)],
)  # fmt: skip
@pytest.mark.parametrize("is_transparent", [False, True])
def test_png_of_all_depths_and_kinds_is_scaled_to_8_bits(tmp_path, bits, kind, is_transparent):
    n_channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[kind]
    values = np.random.default_rng(bits).integers(0, 1 << bits, (19, 21, n_channels))
    transparent = {0: struct.pack(">H", values[3, 3, 0]), 2: struct.pack(">HHH", *values[3, 3, :3].repeat(3)[:3])}
    transparent[3] = bytes((0, 99))
    write_png(tmp_path / "1.png", values, bits, kind, transparent.get(kind, b"") if is_transparent else b"")
    colour = values[..., :3] if kind in (2, 6) else values[..., :1].repeat(3, axis=2)
    scaled = colour >> 8 if bits == 16 else colour * 255 // ((1 << bits) - 1)
    if kind == 3:
        scaled = np.linspace(255, 0, 1 << bits).astype(np.uint8)[colour]
    found = read_image(tmp_path / "1.png")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, scaled)
    np.testing.assert_array_equal(found, cv2.imread(str(tmp_path / "1.png"))[..., ::-1])


def test_16_bit_grey_from_other_programs(tmp_path, sample):
    with Image.open(sample / "cropped_aligned/single_face/00001.jpg") as picture:
        grey = np.asarray(picture.convert("L"))
    cv2.imwrite(str(tmp_path / "1.png"), grey.astype(np.uint16) * 257)
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "2.png")
    Image.fromarray(grey.astype(">u2") * np.array(256, ">u2")).save(tmp_path / "3.jpg", "PNG")
    for name in ("1.png", "2.png", "3.jpg"):
        np.testing.assert_array_equal(read_image(tmp_path / name), grey[..., None].repeat(3, axis=2))
        cutout = np.asarray(read_cutout(tmp_path / name, 112))
        np.testing.assert_array_equal(cutout[30:80, 30:80, 0], grey[30:80, 30:80])


def test_one_value_of_16_bit_grey_may_be_transparent(tmp_path):
    values = np.full((20, 20, 1), 0x8001)
    values[5:15, 4:16] = 0x8002
    write_png(tmp_path / "1.png", values, 16, 0, b"\x80\x01")
    assert read_cutout(tmp_path / "1.png", 100).size == (12, 10)
    assert read_image(tmp_path / "1.png").mean() == 0x80


OTHER_MODES = {
    "jpg": ("L", "RGB", "CMYK"),
    "bmp": ("1", "L", "P", "RGB", "RGBA"),
    "gif": ("L", "P"),
    "webp": ("RGB", "RGBA"),
}


@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix in OTHER_MODES for mode in OTHER_MODES[suffix]])
def test_modes_of_other_formats_are_read_as_opencv_reads_them(tmp_path, suffix, mode, sample):
    name = f"1.{suffix}"
    with Image.open(sample / "cropped_aligned/single_face/00001.jpg") as picture:
        written = picture.convert("RGB").quantize(60) if mode == "P" else picture.convert("RGB").convert(mode)
    written.save(tmp_path / name, **({"lossless": True} if suffix == "webp" else {}))
    found, peer = read_image(tmp_path / name).astype(int), cv2.imread(str(tmp_path / name))[..., ::-1]
    assert found.shape == (112, 112, 3)
    assert np.abs(found - peer).max() <= 2


@pytest.mark.parametrize(
    ("written", "said"), [("TIFF", "TIFF"), ("JPEG2000", "JPEG 2000"), ("PPM", "PPM"), ("AVIF", "AVIF")]
)
def test_images_of_formats_that_are_not_read_are_told_by_name(tmp_path, written, said):
    if written == "TIFF":
        Image.fromarray(np.random.default_rng(0).random((20, 20), np.float32)).save(tmp_path / "1.png", "TIFF")
    else:
        Image.new("RGB", (20, 20)).save(tmp_path / "1.png", written)
    with pytest.raises(DataError, match=rf"1\.png is a {said} image, which is not supported\. Save it as PNG\."):
        read_image(tmp_path / "1.png")


def test_a_large_png_may_hold_the_bytes_that_begin_a_scan_of_a_jpeg(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (100, 4000, 3), dtype=np.uint8)
    picture[::2, ::20, 0], picture[::2, ::20, 1] = 0xFF, 0xDA
    Image.fromarray(picture).save(tmp_path / "1.png", compress_level=0)
    assert (tmp_path / "1.png").read_bytes().count(b"\xff\xda") > 1000
    np.testing.assert_array_equal(read_image(tmp_path / "1.png"), picture)


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_of_a_large_camera_is_read(tmp_path, suffix, recwarn):
    """Of 192 million pixels: Pillow warns from 89 million on, and refuses twice as many."""
    Image.new("L", (16_000, 12_000), 7).save(tmp_path / f"1.{suffix}")
    assert open_upright(tmp_path / f"1.{suffix}").size == (16_000, 12_000)
    assert [str(one.message) for one in recwarn] == []


def claiming(content: bytes, at: int, size: bytes) -> bytes:
    """The bytes of an image with another size in its header."""
    return content[:at] + size + content[at + len(size) :]


def saved(suffix: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (16, 16)).save(stream, suffix, **options)
    return stream.getvalue()


ANIMATED = {"save_all": True, "append_images": [Image.new("RGB", (16, 16), 5)]}
BITS = 15_999 | 15_999 << 14


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("suffix", "options", "at", "size", "said"),
    [
        ("bmp", {}, 18, struct.pack("<ii", 20_000, 20_000), "20000 x 20000"),
        ("bmp", {}, 18, struct.pack("<ii", 20_000, -20_000), "20000 x 20000"),
        ("gif", {}, 6, struct.pack("<HH", 16_000, 16_000), "16000 x 16000"),
        ("gif", ANIMATED, 6, struct.pack("<HH", 16_000, 16_000), "16000 x 16000"),
        ("webp", {}, 26, struct.pack("<HH", 16_000, 16_000), "16000 x 16000"),
        ("webp", {"lossless": True}, 21, struct.pack("<I", BITS), "16000 x 16000"),
        ("webp", ANIMATED, 24, b"\x07\x52\0\x97\x3a\0", "21000 x 15000"),
        ("webp", ANIMATED, 24, b"\xff\xff\xff\xc7\0\0", "16777216 x 200"),
    ],
)
def test_sizes_beyond_the_limit_are_refused_by_name(tmp_path, suffix, options, at, size, said):
    (tmp_path / f"1.{suffix}").write_bytes(claiming(saved(suffix, **options), at, size))
    for read in (read_image, open_upright):
        with pytest.raises(DataError, match=f"has {said} pixels: more than 250,000,000 are not decoded"):
            read(tmp_path / f"1.{suffix}")


def test_other_crops_have_another_digest(tmp_path, make_crops):
    digests = {list_crops(make_crops(tmp_path / "a", 3)).digest}
    assert list_crops(make_crops(tmp_path / "again", 3)).digest in digests
    digests.add(list_crops(make_crops(tmp_path / "a", 4)).digest)
    digests.add(list_crops(make_crops(tmp_path / "other", 3, seed=1)).digest)
    digests.add(list_crops(make_crops(tmp_path / "moved", [1, 2, 4])).digest)
    assert len(digests) == 4


def test_a_dangling_link_costs_one_frame_not_the_listing(tmp_path, make_crops):
    make_crops(tmp_path, 2)
    (tmp_path / "00003.jpg").symlink_to(tmp_path / "gone.jpg")
    crops = list_crops(tmp_path)
    assert set(crops.numbers.tolist()) >= {1, 2}


def test_a_picture_that_breaks_off_is_an_error_though_its_end_mark_is_there(tmp_path, sample):
    content = (sample / "cropped_aligned/single_face/00001.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(content[: len(content) // 2] + b"\xff\xd9")
    with pytest.raises(DataError, match=r"1\.jpg is damaged"):
        read_image(tmp_path / "1.jpg")


# video files and frame rates


@pytest.mark.parametrize("folder", ["videos", "batch1", "batch2"])
def test_frame_rate_and_length_come_from_the_video_file(tmp_path, make_data, folder):
    root = make_data({"a": 4})
    write_film(root / folder / "a.mp4", 12, Fraction(30000, 1001))
    clock = clock_of(root, "a", fps=15)
    assert clock.fps == pytest.approx(30000 / 1001)
    assert (clock.n_frames, clock.warning) == (12, "")


def test_left_and_right_share_the_file_of_the_base_name(tmp_path, make_data):
    root = make_data({"x_left": 2, "x_right": 2, "y": 2, "y_right": 2, "z_right": 2})
    write_film(root / "batch1/x.mp4")
    write_film(root / "batch2/y.avi")
    write_film(root / "videos/z_right.mp4")  # a name may also end so by itself
    files = {video.name: video.file for video in open_dataset(root).videos}
    assert {name: file.name for name, file in files.items()} == {
        "x_left": "x.mp4", "x_right": "x.mp4", "y": "y.avi", "y_right": "y.avi", "z_right": "z_right.mp4"
    }  # fmt: skip


def test_frames_are_counted_where_the_container_does_not_say(tmp_path, make_data):
    root = make_data({"a": 2})
    write_film(root / "videos/a.mkv", 9)
    with av.open(str(root / "videos/a.mkv")) as container:
        assert container.streams.video[0].frames == 0
    assert clock_of(root, "a").n_frames == 9


def test_without_a_video_file_the_rate_is_given_or_assumed_with_a_warning(make_data):
    root = make_data({"a": [3, 8]})
    given, assumed = clock_of(root, "a", fps=17.5), clock_of(root, "a")
    assert (given.fps, given.n_frames, assumed.fps, assumed.n_frames) == (17.5, 8, 30, 8)
    assert "no video file" in given.warning and "17.5 fps" in given.warning
    assert "30 fps assumed" in assumed.warning and "--fps" in assumed.warning


@pytest.mark.parametrize("content", [b"", b"not a film" * 100])
def test_a_broken_video_file_falls_back_with_a_warning_that_names_it(make_data, content):
    root = make_data({"a": 3})
    (root / "videos").mkdir()
    (root / "videos/a.mp4").write_bytes(content)
    clock = clock_of(root, "a", fps=24)
    assert (clock.fps, clock.n_frames) == (24, 3)
    assert "a.mp4 cannot be read as a video" in clock.warning and "24 fps" in clock.warning


def test_crops_after_the_end_of_the_video_file_make_it_longer(make_data):
    root = make_data({"a": [1, 15]})
    write_film(root / "videos/a.mp4", 10)
    assert clock_of(root, "a").n_frames == 15


def test_sample_has_its_frames_and_rates(sample):
    dataset = open_dataset(sample)
    found = {}
    for video in dataset.videos:
        frames = dataset.open(video)
        found[video.name] = (len(frames.rows), frames.clock())
        with av.open(str(video.file)) as container:
            stream = container.streams.video[0]
            times = [float(frame.pts * stream.time_base) for frame in container.decode(video=0)]
        clock = found[video.name][1]
        assert clock.n_frames == len(times)
        # mean over the whole file, the last frame's own duration included
        assert clock.fps == pytest.approx((len(times) - 1) / (times[-1] - times[0]), rel=0.02)
    assert {name: (n, clock.n_frames) for name, (n, clock) in found.items()} == {
        "face_noface": (72, 169), "single_face": (72, 72)
    }  # fmt: skip
    assert all(not clock.warning for _, clock in found.values())


# labels


@pytest.mark.parametrize("place", ["", "labels"])
@pytest.mark.parametrize(
    ("folder", "task", "header", "rows", "expected"),
    [
        (VA, "va", VA_HEADER, ("0.5,-1", "-5,0.25", "1,-5"), [[0.5, -1], [-5, 0.25], [1, -5]]),
        (OLD_EXPR, "expr", EXPR_HEADER, ("0", "-1", "7"), [[0], [-1], [7]]),
        (NEW_EXPR, "expr", EXPR_HEADER, ("3", "3", "4"), [[3], [3], [4]]),
        (AU, "au", AU_HEADER, ("0,1" * 1 + ",0" * 10, ",".join(["-1"] * 12)), [[0, 1] + [0] * 10, [-1] * 12]),
    ],
)
def test_labels_of_each_task_in_each_place(
    tmp_path, make_data, make_labels, place, folder, task, header, rows, expected
):
    root = make_data({"v": 3})
    make_labels(root / place, f"{folder}/Train_Set", "v", header, *rows)
    make_labels(root / place, f"{folder}/Validation_Set", "w", header, *rows)
    files = open_dataset(root).labels
    assert [(file.task, file.split, file.video) for file in files] == [(task, "train", "v"), (task, "val", "w")]
    read = files[0].read()
    np.testing.assert_array_equal(read, np.array(expected, dtype=read.dtype))
    assert read.dtype == (np.float32 if task == "va" else np.int8)


def test_a_header_with_spaces_a_byte_order_mark_or_windows_line_ends_is_read(tmp_path, make_labels):
    make_labels(tmp_path, f"{VA}/Train_Set", "a").write_bytes(
        b"\xef\xbb\xbfvalence, arousal\r\n0.5,-0.5\r\n1,-1\r\n\r\n"
    )
    (tmp_path / "cropped_aligned/a").mkdir(parents=True)
    read = open_dataset(tmp_path).labels[0].read()
    np.testing.assert_array_equal(read, np.array([[0.5, -0.5], [1, -1]], dtype=np.float32))


@pytest.mark.parametrize(
    ("task", "lines", "line", "words"),
    [
        ("va", ["0.1,0.2", "0.1,0.2"], 1, "header should be 'valence,arousal', found '0.1,0.2'"),
        ("va", [""], 1, "header"),
        ("va", [AU_HEADER, "0.1,0.2"], 1, "header should be 'valence,arousal'"),
        ("va", [VA_HEADER, "0.1,0.2", "0.1"], 3, "2 values expected .* found 1: '0.1'"),
        ("va", [VA_HEADER, "0.1,0.2,0.3"], 2, "2 values expected .* found 3"),
        ("va", [VA_HEADER, "0.1,0.2", "0.1,happy"], 3, "arousal should be -1 to 1, or -5 .* found 'happy'"),
        ("va", [VA_HEADER, "0.1,0.2", "0.1,0.2", "1.01,0"], 4, "valence should be -1 to 1, or -5 .* found '1.01'"),
        ("va", [VA_HEADER, "0.1,-4"], 2, "arousal should be -1 to 1.* found '-4'"),
        ("va", [VA_HEADER, "0.1,0.2", "", "0.3,0.4"], 3, "2 values expected .* found 0"),
        ("va", [VA_HEADER, "", "0.3,0.4"], 2, "2 values expected .* found 0"),
        ("va", [VA_HEADER, "0.1,0.2", "   ", "0.3,0.4"], 3, "2 values expected .* found 0"),
        ("va", [VA_HEADER, "0.1,nan"], 2, "arousal should be .* found 'nan'"),
        ("va", [VA_HEADER, "inf,0"], 2, "valence should be .* found 'inf'"),
        ("expr", [EXPR_HEADER, "3", "8"], 3, "expression should be 0 to 7, or -1 .* found '8'"),
        ("expr", [EXPR_HEADER, "3", "2.5"], 3, "expression should be 0 to 7, or -1 .* found '2.5'"),
        ("expr", [EXPR_HEADER, "3,4"], 2, "1 values expected .* found 2"),
        ("au", [AU_HEADER, ",".join(["0"] * 11 + ["2"])], 2, "AU26 should be 0 to 1, or -1 .* found '2'"),
        ("au", [AU_HEADER, ",".join(["0"] * 11)], 2, "12 values expected .* found 11"),
        ("au", [AU_HEADER, "0,-2" + ",0" * 10], 2, "AU2 should be 0 to 1, or -1 .* found '-2'"),
    ],
)  # fmt: skip
def test_label_errors_name_file_line_and_remedy(tmp_path, make_labels, task, lines, line, words):
    folder = {"va": VA, "expr": OLD_EXPR, "au": AU}[task]
    make_labels(tmp_path, f"{folder}/Train_Set", "clip", *lines)
    (tmp_path / "cropped_aligned/clip").mkdir(parents=True)
    with pytest.raises(DataError, match=rf"clip\.txt line {line}: .*{words}.*(Correct the line|Restore the header)"):
        open_dataset(tmp_path).labels[0].read()


@pytest.mark.parametrize("content", [bytes(range(256)) * 4, b"\x00\xff\xfe" * 50])
def test_binary_junk_for_labels_is_an_error(tmp_path, make_labels, content):
    make_labels(tmp_path, f"{VA}/Train_Set", "clip").write_bytes(content)
    (tmp_path / "cropped_aligned/clip").mkdir(parents=True)
    with pytest.raises(DataError, match=r"clip\.txt cannot be read as text .*copy it again"):
        open_dataset(tmp_path).labels[0].read()


def test_a_header_alone_is_an_error(tmp_path, make_labels):
    make_labels(tmp_path, f"{VA}/Train_Set", "clip", VA_HEADER)
    (tmp_path / "cropped_aligned/clip").mkdir(parents=True)
    with pytest.raises(DataError, match=r"clip\.txt has a header but no rows"):
        open_dataset(tmp_path).labels[0].read()


def test_headers_are_those_of_the_organisers():
    assert {name: task.labels.header for name, task in TASKS.items() if task.labels} == {
        "va": VA_HEADER, "expr": EXPR_HEADER, "au": AU_HEADER
    }  # fmt: skip


# the whole


def test_no_folder_an_empty_one_and_one_without_videos(tmp_path):
    with pytest.raises(DataError, match=r"No data folder .*nowhere.*--data.*abaw demo"):
        open_dataset(tmp_path / "nowhere")
    (tmp_path / "a.zip").touch()
    with pytest.raises(DataError, match=r"a\.zip is a file, not a data folder\. .*--data\."):
        open_dataset(tmp_path / "a.zip")
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=r"has no videos or images; it is empty\. Known layouts are Aff-Wild2") as error:
        open_dataset(tmp_path / "data")
    for place in ("cropped_aligned/<video>/00001.jpg", "training_set_synthetic_images/<CLASS>", "Train_labels.txt"):
        assert place in str(error.value)
    (tmp_path / "data/pictures").mkdir()
    with pytest.raises(DataError, match=r"it holds pictures\."):
        open_dataset(tmp_path / "data")
    (tmp_path / "data/cropped_aligned").mkdir()
    with pytest.raises(DataError, match=r"cropped_aligned has no video folders\. Known layouts are"):
        open_dataset(tmp_path / "data")


def test_an_empty_crop_folder_does_not_hide_the_other(tmp_path, make_crops):
    (tmp_path / "cropped_aligned").mkdir()
    make_crops(tmp_path / "raw/images/a", 2)
    assert [video.name for video in open_dataset(tmp_path).videos] == ["a"]


def test_hidden_folders_and_files_are_no_videos_and_no_labels(tmp_path, make_data, make_labels):
    root = make_data({"a": 1})
    (root / "cropped_aligned/.ipynb_checkpoints").mkdir()
    make_labels(root, f"{VA}/Train_Set", "a", VA_HEADER, "0,0")
    shutil.copy(root / f"{VA}/Train_Set/a.txt", root / f"{VA}/Train_Set/._a.txt")
    dataset = open_dataset(root)
    assert [video.name for video in dataset.videos] == ["a"]
    assert [file.video for file in dataset.labels] == ["a"]


@pytest.mark.parametrize(
    ("form", "codec"),
    [
        *(("h264", "libx264"), ("hevc", "libx265"), ("m4v", "mpeg4"), ("mpeg2video", "mpeg2video")),
        *(("mjpeg", "mjpeg"), ("mxf", "mpeg2video"), ("dv", "dvvideo")),
    ],
)
def test_video_files_of_other_kinds_are_read(tmp_path, form, codec):
    size, pixels = (
        ((720, 576), "yuv420p") if form == "dv" else ((64, 32), "yuvj420p" if codec == "mjpeg" else "yuv420p")
    )
    with av.open(str(tmp_path / "a.mp4"), "w", format=form) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        for level in range(10):
            picture = np.full((size[1], size[0], 3), level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    assert probe_timing(tmp_path / "a.mp4").n_frames == 10


@pytest.mark.parametrize("form", ["w64", "aiff", "caf"])
def test_sound_files_of_other_kinds_are_opened(tmp_path, form):
    with av.open(str(tmp_path / "a.wav"), "w", format=form) as container:
        stream = container.add_stream("pcm_s16be" if form == "aiff" else "pcm_s16le", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with open_media(tmp_path / "a.wav") as container:
        assert sum(frame.samples for frame in container.decode(audio=0)) == 1600


def test_a_playlist_called_mp4_opens_no_other_file(tmp_path, numbered):
    numbered.write(tmp_path / "real.mp4")
    assert probe_timing(tmp_path / "real.mp4").n_frames == 10
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile real.mp4\n")
    with pytest.raises(DataError, match=r"list\.mp4 cannot be read as a video"):
        probe_timing(tmp_path / "list.mp4")


# folders and numbers that are not as they should be


@pytest.mark.parametrize("name", ["00000.jpg", "0.png"])
def test_crops_numbered_from_0_have_a_fault_and_no_clock(make_data, name):
    root = make_data({"a": [1, 2, 3]})
    folder = root / "cropped_aligned/a"
    before = list_crops(folder)
    (folder / "00003.jpg").rename(folder / name)
    crops = list_crops(folder)
    assert (crops.numbers.tolist(), crops.ignored, count_crops(folder)) == ([1, 2], (), 2)
    with pytest.raises(DataError, match=rf"a/{name} has the frame number 0; frames are numbered from 1\. Correct the"):
        clock_of(root, "a")
    (folder / name).unlink()
    mended = list_crops(folder)
    assert (mended.fault, before.fault) == ("", "")
    assert len({before.digest, crops.digest, mended.digest}) == 3  # what was made of them before is made again


def test_both_crop_folders_together(tmp_path, make_crops):
    make_crops(tmp_path / "raw/images/a", 2)
    make_crops(tmp_path / "cropped_aligned/b", 1)
    make_crops(tmp_path / "raw/images/c", 4)
    make_crops(tmp_path / "cropped_aligned/c", 3)
    dataset = open_dataset(tmp_path)
    videos = dataset.videos
    assert [(video.name, dataset.open(video).size()) for video in videos] == [("a", 2), ("b", 1), ("c", 3)]
    assert videos[2].path == tmp_path / "cropped_aligned/c"
    (tmp_path / "cropped_aligned/a").mkdir()  # an empty one hides nothing
    assert open_dataset(tmp_path).videos[0].path == tmp_path / "raw/images/a"


@pytest.mark.parametrize(
    ("last", "words"), [(10, ""), (11, ""), (12, "crops continue for 2 frames after the end of a.mp4: is ")]
)
def test_crops_that_go_on_long_after_the_end_of_the_video_file_are_told(make_data, last, words):
    root = make_data({"a": [1, last]})
    write_film(root / "videos/a.mp4", 10)
    clock = clock_of(root, "a")
    assert (clock.n_frames, clock.fps, clock.is_guessed) == (last, 25, False)
    assert clock.warning.startswith(words) and bool(clock.warning) == bool(words)
