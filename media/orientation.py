"""How to turn and mirror stored pictures to be upright, from the EXIF data of an image or the matrix of a video."""

import struct
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple, cast

import av
import av.filter
import numpy as np
from av.sidedata.sidedata import SideData, Type
from numpy.typing import NDArray
from PIL import Image

EXIF = b"Exif\0\0"  # start of EXIF data in a JPEG
START_OF_SCAN, APP1 = 0xDA, 0xE1  # markers of segments of a JPEG; a byte 0xFF comes before each
ORIENTATION, SHORT = 0x0112, 3  # tag and type of a value in EXIF data
UNKNOWN_SIDE_DATA = sorted(set(range(48)) - {kind.value for kind in Type})  # FFmpeg has more kinds than PyAV
MATRIX = struct.Struct("=9i")


class Orientation(NamedTuple):
    """One of the eight symmetries of a rectangle; the steps are applied in this order.

    Attributes:
        is_turned: rows and columns are transposed.
        is_flipped: top and bottom are swapped.
        is_mirrored: left and right are swapped.
    """

    is_turned: bool = False
    is_flipped: bool = False
    is_mirrored: bool = False

    def turn(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """An image (height, width, 3) made upright; the same array if it is upright already."""
        if self == UPRIGHT:
            return image
        image = image.swapaxes(0, 1) if self.is_turned else image
        return np.ascontiguousarray(image[:: -1 if self.is_flipped else 1, :: -1 if self.is_mirrored else 1])

    def turn_picture(self, picture: Image.Image) -> Image.Image:
        """A Pillow image of any mode made upright; the same image if it is upright already."""
        if self.is_turned:
            picture = picture.transpose(Image.Transpose.TRANSPOSE)
        if self.is_flipped:
            picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        return picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.is_mirrored else picture


UPRIGHT = Orientation()
# by EXIF number
BY_NUMBER = {
    1: UPRIGHT,
    2: Orientation(is_mirrored=True),
    3: Orientation(is_flipped=True, is_mirrored=True),
    4: Orientation(is_flipped=True),
    5: Orientation(is_turned=True),
    6: Orientation(is_turned=True, is_mirrored=True),
    7: Orientation(is_turned=True, is_flipped=True, is_mirrored=True),
    8: Orientation(is_turned=True, is_flipped=True),
}


class Turning:
    """The orientations of the frames of a video; call it for every frame, in order.

    Containers state the orientation for every frame. Streams may state it only at key frames; it holds until the next.
    """

    def __init__(self) -> None:
        self._last = UPRIGHT

    def of(self, frame: av.VideoFrame) -> Orientation:
        """The orientation that holds for a frame."""
        matrix = _matrix(frame)
        if matrix is not None:
            self._last = of_matrix(matrix)
        return self._last


def _matrix(frame: av.VideoFrame) -> bytes | None:
    """The display matrix of a frame; None if it has no matrix."""
    try:
        side_data = frame.side_data
    except ValueError:  # it has a kind that PyAV does not know, such as EXIF in Motion JPEG
        side_data = _without_unknown(frame).side_data
    entries = cast(Iterable[SideData], side_data)  # PyAV's stubs have another type
    return next((bytes(entry) for entry in entries if entry.type is Type.DISPLAYMATRIX), None)


def _without_unknown(frame: av.VideoFrame) -> av.VideoFrame:
    """The same frame without side data that PyAV does not know."""
    graph = av.filter.Graph()
    graph.threads = 1  # more threads would only be started and stopped
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base or Fraction(1, 90_000)
    )
    steps = [graph.add("sidedata", f"mode=delete:type={kind}") for kind in UNKNOWN_SIDE_DATA]
    graph.link_nodes(source, *steps, graph.add("buffersink")).configure()
    graph.push(frame)
    bare = graph.pull()
    assert isinstance(bare, av.VideoFrame)
    return bare


def of_matrix(content: bytes) -> Orientation:
    """The symmetry nearest to a display matrix, 9 int32 as in FFmpeg; `UPRIGHT` for a singular or incomplete matrix.

    A point (x, y) of the stored picture is shown at (a x + c y, b x + d y), shifted so that nothing is outside.
    """
    if len(content) < MATRIX.size:
        return UPRIGHT
    a, b, _, c, d, *_ = MATRIX.unpack_from(content)
    if a * d == b * c:
        return UPRIGHT
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Orientation(True, b < 0, c < 0)
    return Orientation(False, d < 0, a < 0)


def of_jpeg(content: bytes) -> Orientation:
    """How to make the pixels of a JPEG upright, from the EXIF data in its first segments."""
    at = 2
    try:
        while content[at] == 0xFF and (marker := content[at + 1]) != START_OF_SCAN:
            if marker == APP1 and content.startswith(EXIF, at + 4):
                return of_exif(content[at + 4 : at + 2 + (content[at + 2] << 8) + content[at + 3]])
            # any number of 0xFF may come before a marker
            at += 1 if marker == 0xFF else 2 + (content[at + 2] << 8) + content[at + 3]
    except IndexError:  # it is cut off
        pass
    return UPRIGHT


def of_picture(picture: Image.Image) -> Orientation:
    """How to make an image that Pillow has loaded upright, from its EXIF data."""
    if isinstance(content := picture.info.get("exif"), bytes):
        return of_exif(content)
    # in a PNG by older programs: a name, the length, and hex digits
    exif_text = picture.info.get("Raw profile type exif")
    if isinstance(exif_text, str):
        try:
            return of_exif(bytes.fromhex("".join(exif_text.split("\n")[3:])))
        except ValueError:
            pass
    return UPRIGHT


def of_exif(content: bytes) -> Orientation:
    """The orientation in EXIF data; `UPRIGHT` if it is missing or broken."""
    content = content.removeprefix(EXIF)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(content[:4])
    if order is None:
        return UPRIGHT
    try:
        (start,) = struct.unpack_from(f"{order}I", content, 4)
        (n_entries,) = struct.unpack_from(f"{order}H", content, start)
        for at in range(start + 2, start + 2 + 12 * n_entries, 12):
            tag, kind, n_values, value = struct.unpack_from(f"{order}HHIH", content, at)
            if tag == ORIENTATION:
                return BY_NUMBER.get(value, UPRIGHT) if (kind, n_values) == (SHORT, 1) else UPRIGHT
    except struct.error:  # it points beyond its end
        pass
    return UPRIGHT
