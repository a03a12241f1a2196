"""Pictures are upright, whatever files say of how they are stored: matrices of videos, EXIF data of images."""

import io
import math
import shutil
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.bitstream import BitStreamFilterContext
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from abaw.datasets.synth.cutouts import read_background, read_cutout
from abaw.media.images import open_upright, read_image
from abaw.media.orientation import UPRIGHT, Orientation, of_exif, of_jpeg, of_matrix
from abaw.media.pictures import as_rgb, read_pictures, read_pictures_at
from abaw.media.redraw import redraw

BLOCK = 16
GREYS = np.random.default_rng(7).permutation(24).reshape(4, 6) * 10 + 12  # no two blocks are alike
STORED = np.kron(GREYS, np.ones((BLOCK, BLOCK), int)).astype(np.uint8)[..., None].repeat(3, axis=2)

# a, b, c, d: a stored point (x, y) is shown at (a x + c y, b x + d y)
NAMES = {
    (1, 0, 0, 1): "as it is",
    (-1, 0, 0, 1): "mirrored",
    (1, 0, 0, -1): "upside down mirrored",
    (-1, 0, 0, -1): "half a turn",
    (0, 1, 1, 0): "transposed",
    (0, -1, 1, 0): "turned left",
    (0, 1, -1, 0): "turned right",
    (0, -1, -1, 0): "transposed over the other corner",
}
SYMMETRIES = list(NAMES)


def moved(blocks: np.ndarray, matrix: tuple[int, ...]) -> np.ndarray:
    """Blocks where the matrix puts them, one by one."""
    a, b, c, d = matrix
    height, width = blocks.shape[:2]
    places = {(b * x + d * y, a * x + c * y): blocks[y, x] for y in range(height) for x in range(width)}
    rows, columns = (sorted({place[axis] for place in places}) for axis in (0, 1))
    return np.array([[places[row, column] for column in columns] for row in rows])


def greys_of(image: np.ndarray) -> np.ndarray:
    """The grey level in the middle of each block."""
    assert image.dtype == np.uint8 and image.shape[2] == 3 and image.flags["C_CONTIGUOUS"]
    return image[BLOCK // 2 :: BLOCK, BLOCK // 2 :: BLOCK].mean(axis=2)


def set_matrix(file: Path, matrix: tuple[float, ...]) -> Path:
    """Write a display matrix into the header of a track, as cameras do."""
    content = bytearray(file.read_bytes())
    at = content.index(b"tkhd") + 44
    assert struct.unpack_from(">9i", content, at) == (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    a, b, c, d = (round(65536 * value) for value in matrix)
    struct.pack_into(">9i", content, at, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    file.write_bytes(content)
    return file


def copied(source: Path, out: Path, steps: str = "null") -> Path:
    """The packets of a video in another container, through a filter of FFmpeg."""
    with av.open(str(source)) as container, av.open(str(out), "w") as target:
        stream = container.streams.video[0]
        copy, steps_taken = target.add_stream_from_template(stream), BitStreamFilterContext(steps, stream)
        for packet in container.demux(stream):
            for filtered in steps_taken.filter(packet if packet.dts is not None else None):
                filtered.stream = copy
                target.mux(filtered)
    return out


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of eight frames of the blocks, pixels 4:3, without a matrix."""
    file = tmp_path_factory.mktemp("plain") / "a.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "10", "g": "4"})
        stream.height, stream.width, stream.pix_fmt = *STORED.shape[:2], "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for _ in range(8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(STORED, format="rgb24")))
        container.mux(stream.encode())
    return file


@pytest.fixture
def stored(plain: Path, tmp_path: Path) -> Path:
    """A copy of it to be changed."""
    return Path(shutil.copy(plain, tmp_path / "stored.mp4"))


# videos


@pytest.mark.parametrize("matrix", SYMMETRIES, ids=NAMES.get)
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_videos_are_shown_as_their_matrix_says(stored, tmp_path, matrix, suffix):
    file = set_matrix(stored, matrix)
    if suffix != ".mp4":
        file = copied(file, tmp_path / f"a{suffix}")
    wanted = moved(GREYS, matrix)
    for image in (*(one.image for one in read_pictures(file)), next(read_pictures_at(file, [0.1])).image):
        assert image.shape == (wanted.shape[0] * BLOCK, wanted.shape[1] * BLOCK, 3)
        assert np.abs(greys_of(image) - wanted).max() < 4


@pytest.mark.parametrize("matrix", SYMMETRIES, ids=NAMES.get)
def test_shrunk_pictures_are_upright_too(stored, matrix):
    image = next(read_pictures(set_matrix(stored, matrix), shorter_side=32)).image
    wanted = moved(GREYS, matrix)
    assert image.shape == (wanted.shape[0] * 8, wanted.shape[1] * 8, 3)
    assert np.abs(image[4::8, 4::8].mean(axis=2) - wanted).max() < 6


@pytest.mark.parametrize("matrix", SYMMETRIES, ids=NAMES.get)
def test_a_video_drawn_over_is_upright_with_pixels_of_its_shape(stored, tmp_path, matrix):
    shapes = []
    list(redraw(set_matrix(stored, matrix), tmp_path / "out.mp4", lambda number, image: shapes.append(image) or image))
    wanted = moved(GREYS, matrix)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.sample_aspect_ratio == (Fraction(4, 3) if matrix[0] else Fraction(3, 4))
        frames = list(container.decode(stream))
    assert [one.rotation for one in frames] == [0] * 8
    assert {one.shape for one in shapes} == {(wanted.shape[0] * BLOCK, wanted.shape[1] * BLOCK, 3)}
    assert np.abs(greys_of(as_rgb(frames[5])) - wanted).max() < 8


def bytes_of(a: float, b: float, c: float, d: float) -> bytes:
    return struct.pack("=9i", *(round(65536 * one) for one in (a, b, 0, c, d, 0, 0, 0, 16384)))


@pytest.mark.parametrize("matrix", SYMMETRIES, ids=NAMES.get)
@pytest.mark.parametrize("degrees", [-40, -3, 0.5, 20, 44])
@pytest.mark.parametrize("scale", [0.01, 1, 3])
def test_angles_between_are_rounded(matrix, degrees, scale):
    cos, sin = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    turned = np.reshape(matrix, (2, 2)) @ [[cos, sin], [-sin, cos]]
    assert of_matrix(bytes_of(*turned.flat)) == of_matrix(bytes_of(*matrix))


@pytest.mark.parametrize("matrix", [(0, 0, 0, 0), (-1, 0, 0, 0), (1, 1, 1, 1), (0, -1, 0, 1), (-2, 4, -1, 2)])
def test_a_matrix_that_leaves_no_picture_is_passed_over(matrix):
    assert of_matrix(bytes_of(*matrix)) == UPRIGHT
    assert of_matrix(bytes_of(*matrix)[:20]) == UPRIGHT


@pytest.mark.parametrize("matrix", [(0, 0, 0, 0), (0, -1, 0, 1), (-0.96, 0.02, 0.02, 1.03)])
def test_odd_matrices_in_files(stored, matrix):
    wanted = GREYS[:, ::-1] if matrix[0] else GREYS
    assert np.abs(greys_of(next(read_pictures(set_matrix(stored, matrix))).image) - wanted).max() < 4


@pytest.mark.parametrize(
    ("said", "matrix"),
    [
        ("rotate=90", (0, -1, 1, 0)),
        ("rotate=180", (-1, 0, 0, -1)),
        ("rotate=0:flip=horizontal", (-1, 0, 0, 1)),
        ("rotate=0:flip=vertical", (1, 0, 0, -1)),
    ],
)
def test_what_h264_says_at_key_frames_holds_for_those_that_follow(plain, tmp_path, said, matrix):
    file = copied(plain, tmp_path / "a.mp4", f"h264_metadata=display_orientation=insert:{said}")
    with av.open(str(file)) as container:
        says = ["DISPLAYMATRIX" in {one.type.name for one in frame.side_data} for frame in container.decode()]
    assert says[0] and says.count(False) >= 6
    wanted = moved(GREYS, matrix)
    found = [*read_pictures(file), *read_pictures(file, {2, 7}), *read_pictures_at(file, [0.05, 0.2])]
    assert len(found) == 12
    assert max(np.abs(greys_of(one.image) - wanted).max() for one in found) < 4
    drawn = []
    list(redraw(file, tmp_path / "out.mp4", lambda number, image: drawn.append(greys_of(image)) or image))
    assert max(np.abs(one - wanted).max() for one in drawn) < 4


@pytest.mark.parametrize("suffix", [".avi", ".mkv", ".mov"])
def test_motion_jpeg_with_exif_data(tmp_path, suffix):
    content = io.BytesIO()
    Image.fromarray(STORED).save(content, "JPEG", quality=95, exif=exif_of(7))
    with av.open(str(tmp_path / f"a{suffix}"), "w") as container:
        stream = container.add_stream("mjpeg", rate=25)
        stream.height, stream.width, stream.pix_fmt = *STORED.shape[:2], "yuvj420p"
        for number in range(3):
            packet = av.Packet(content.getvalue())
            packet.pts = packet.dts = number
            packet.time_base, packet.stream, packet.is_keyframe = Fraction(1, 25), stream, True
            container.mux(packet)
    images = [one.image for one in read_pictures(tmp_path / f"a{suffix}")]
    assert len(images) == 3
    assert max(np.abs(greys_of(image) - GREYS[::-1, ::-1].T).max() for image in images) < 5


# images

# what is at the top and at the left when an image is held upright, as the standard has it: rows and columns of the stored
EXIF_SHOWN = {
    1: GREYS,
    2: GREYS[:, ::-1],
    3: GREYS[::-1, ::-1],
    4: GREYS[::-1],
    5: GREYS.T,
    6: GREYS[::-1].T,
    7: GREYS[::-1, ::-1].T,
    8: GREYS.T[::-1],
}
KINDS = {
    "1.jpg": {"format": "JPEG", "quality": 95},
    "2.jpg": {"format": "JPEG", "quality": 95, "progressive": True},
    "1.png": {"format": "PNG"},
    "1.webp": {"format": "WEBP", "lossless": True},
    "webp.jpg": {"format": "WEBP", "quality": 95},
    "png.jpg": {"format": "PNG"},
}


def exif_of(number: int, order: str = "<") -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0112], exif[0x0131] = "a camera", number, "a program"
    return exif.tobytes()


def assert_shown(file: Path, wanted: np.ndarray) -> None:
    found, peer = read_image(file), cv2.imread(str(file))[..., ::-1]
    assert np.abs(greys_of(found) - wanted).max() < 4
    assert found.shape == peer.shape and np.abs(found.astype(int) - peer).max() <= 2
    np.testing.assert_array_equal(np.asarray(open_upright(file).convert("RGB")), found)


@pytest.mark.parametrize("number", EXIF_SHOWN)
@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("order", ["<", ">"])
def test_images_are_upright_as_opencv_has_them(tmp_path, number, name, order):
    Image.fromarray(STORED).save(tmp_path / name, exif=exif_of(number, order), **KINDS[name])
    assert_shown(tmp_path / name, EXIF_SHOWN[number])


@pytest.mark.parametrize("mode", ["P", "CMYK", "LA", "16 bit", "L"])
def test_images_of_other_modes_are_upright(tmp_path, mode):
    if mode == "16 bit":
        picture = Image.fromarray(STORED[..., 0].astype(np.uint16) * 257)
    else:
        picture = Image.fromarray(STORED).quantize(30) if mode == "P" else Image.fromarray(STORED).convert(mode)
    file = tmp_path / ("1.jpg" if mode in ("CMYK", "L") else "1.png")
    picture.save(file, exif=exif_of(6))
    assert np.abs(greys_of(read_image(file)) - EXIF_SHOWN[6]).max() < 4
    assert np.abs(read_image(file).astype(int) - cv2.imread(str(file))[..., ::-1]).max() <= 2


def test_exif_data_of_older_programs_and_at_the_end_of_a_png(tmp_path):
    digits = exif_of(8).hex()
    texts = PngInfo()
    texts.add_text("Raw profile type exif", f"\nexif\n{len(digits) // 2:8}\n{digits[:72]}\n{digits[72:]}\n")
    Image.fromarray(STORED).save(tmp_path / "1.png", pnginfo=texts)
    assert np.abs(greys_of(read_image(tmp_path / "1.png")) - EXIF_SHOWN[8]).max() == 0
    Image.fromarray(STORED).save(tmp_path / "2.png", exif=exif_of(5))
    content = (tmp_path / "2.png").read_bytes()
    start, size = content.index(b"eXIf") - 4, len(exif_of(5).removeprefix(b"Exif\0\0")) + 12
    last = content.index(b"IEND") - 4
    moved_back = content[:start] + content[start + size : last] + content[start : start + size] + content[last:]
    (tmp_path / "2.png").write_bytes(moved_back)
    assert_shown(tmp_path / "2.png", EXIF_SHOWN[5])


def segment(marker: int, content: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(content) + 2) + content


def jpeg_with(*segments: bytes) -> bytes:
    content = io.BytesIO()
    Image.fromarray(STORED).save(content, "JPEG", quality=95)
    return b"\xff\xd8" + b"".join(segments) + content.getvalue()[2:]


EXIF_SEGMENT = segment(0xE1, exif_of(6))
BEFORE = {
    "nothing": b"",
    "XMP": segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"),
    "a comment": segment(0xFE, b"a comment"),
    "fill bytes": b"\xff\xff\xff",
    "bytes as of a scan": segment(0xE2, b"ICC_PROFILE\0\1\1 \xff\xda\xff\xe1\0\x20Exif\0\0II*\0"),
    "a long segment": segment(0xE5, bytes(60_000)),
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_exif_data_stand_anywhere_before_the_picture(tmp_path, before):
    (tmp_path / "1.jpg").write_bytes(jpeg_with(before, EXIF_SEGMENT))
    assert_shown(tmp_path / "1.jpg", EXIF_SHOWN[6])


TIFF = exif_of(6).removeprefix(b"Exif\0\0")
AT = TIFF.index(struct.pack("<HHI", 0x0112, 3, 1))
BROKEN = {
    "empty": b"",
    "no TIFF": b"garbage that is long enough for a header",
    "header alone": TIFF[:8],
    "cut off before the value": TIFF[: AT + 9],
    "far away": TIFF[:4] + b"\xf0\xff\xff\xff" + TIFF[8:],
    "value 0": TIFF[: AT + 8] + b"\0\0" + TIFF[AT + 10 :],
    "value 9": TIFF[: AT + 8] + b"\x09\0" + TIFF[AT + 10 :],
    "a text": TIFF[: AT + 2] + b"\x02\0" + TIFF[AT + 4 :],
    "many values": TIFF[: AT + 4] + b"\x09\0\0\0" + TIFF[AT + 8 :],
    "65535 entries that are not there": TIFF[:8] + b"\xff\xff",
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("name", KINDS)
def test_broken_exif_data_are_none(tmp_path, broken, name):
    Image.fromarray(STORED).save(tmp_path / name, exif=b"Exif\0\0" + broken, **KINDS[name])
    assert np.abs(greys_of(read_image(tmp_path / name)) - GREYS).max() < 4
    assert of_exif(broken) == UPRIGHT


def test_a_jpeg_may_break_off_anywhere():
    content = jpeg_with(BEFORE["XMP"], BEFORE["fill bytes"], EXIF_SEGMENT)
    n_needed = content.index(EXIF_SEGMENT) + 4 + 6 + AT + 10
    assert {of_jpeg(content[:size]) for size in range(2, n_needed)} == {UPRIGHT}
    assert of_jpeg(content[:n_needed]) == Orientation(is_turned=True, is_mirrored=True)


def test_what_clips_are_made_of_is_upright(tmp_path):
    alpha = np.full((*STORED.shape[:2], 1), 255, np.uint8)
    Image.fromarray(np.concatenate([STORED, alpha], axis=2)).save(tmp_path / "1.png", exif=exif_of(6))
    cutout = read_cutout(tmp_path / "1.png", 1000)
    assert (cutout.mode, cutout.size) == ("RGBa", STORED.shape[:2])
    np.testing.assert_array_equal(greys_of(np.ascontiguousarray(np.asarray(cutout)[..., :3])), EXIF_SHOWN[6])
    Image.fromarray(STORED[:64, :64]).save(tmp_path / "2.jpg", quality=95, exif=exif_of(8))
    found = greys_of(read_background(tmp_path / "2.jpg", 64))
    assert np.abs(found - GREYS[:4, :4].T[::-1]).max() < 4
