"""Decoding of image files such as face crops."""

import io
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from abaw.core.errors import DataError
from abaw.media import orientation
from abaw.media.links import read_bytes

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
# Formats that Pillow may decode, whatever the suffix. One of its other formats runs a program, Ghostscript.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MAX_PIXELS = 250_000_000  # the largest cameras have 200 million; a small file can claim any number
# First bytes of other formats, and their offset. Some cameras and programs name such files .jpg or .png.
OTHER_FORMATS = (
    (b"II*\0", 0, "TIFF"),
    (b"MM\0*", 0, "TIFF"),
    (b"ftyphe", 4, "HEIF"),
    (b"ftypmif", 4, "HEIF"),
    (b"ftypavi", 4, "AVIF"),
    (b"jP  \r\n", 4, "JPEG 2000"),
    (b"JXL \r\n", 4, "JPEG XL"),
    (b"\xff\x0a", 0, "JPEG XL"),
    (b"P5\n", 0, "PGM"),
    (b"P6\n", 0, "PPM"),
)
JPEG, SCAN = b"\xff\xd8", b"\xff\xda"  # the first bytes of a JPEG, and of each scan in it
MAX_SCANS = 100  # a progressive JPEG has about ten; each one is a pass over all pixels

Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own limit warns from 89 million on and refuses 179 million


def read_image(file: Path | str, content: bytes | None = None, formats: tuple[str, ...] = FORMATS) -> NDArray[np.uint8]:
    """Decode an image file to (height, width, 3) uint8 RGB, turned upright if the file states its orientation.

    Transparent pixels have the colour that is stored for them.

    Args:
        content: of the file, if it was read already.
        formats: that Pillow may decode, by its names.

    Raises:
        DataError: it cannot be read, is cut off, or is not an image.
    """
    content = _checked(read_bytes(file) if content is None else content, file)
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(content)
        check_size(width, height, file)
        return orientation.of_jpeg(content).turn(simplejpeg.decode_jpeg(content, colorspace="RGB", strict=True))
    except ValueError as error:  # not a common kind of JPEG: Pillow reads more kinds and reports errors better
        # Pillow would fill missing parts with grey; simplejpeg has one error type, so check libjpeg's message
        if "orrupt" in str(error) or "remature" in str(error):
            raise DataError(f"{file} is damaged ({error}). Replace or delete it.") from error
    picture = _decode(content, file, formats)
    picture.info.pop("transparency", None)  # Pillow would warn about values that it cannot use
    return np.asarray(picture.convert("RGB"))


def open_upright(file: Path | str) -> Image.Image:
    """Decode an image file to 8 bits per channel, turned upright if the file states its orientation.

    Raises:
        DataError: it cannot be read, is cut off, or is not an image.
    """
    return _decode(_checked(read_bytes(file), file), file)


def _checked(content: bytes, file: Path | str) -> bytes:
    if content.startswith(JPEG) and content.count(SCAN) > MAX_SCANS:
        raise DataError(
            f"{file} is a JPEG of more than {MAX_SCANS} scans, which takes too long to decode. Save it again."
        )
    return content


def _decode(content: bytes, file: Path | str, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """Decode an image with Pillow to 8 bits a channel, upright."""
    try:
        if content.startswith(b"RIFF"):
            check_size(*_size_of_webp(content), file)
        with Image.open(io.BytesIO(content), formats=formats) as picture:
            check_size(*picture.size, file)
            picture.load()
            return orientation.of_picture(picture).turn_picture(_in_8_bits(picture))
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        # above twice the limit, which Pillow refuses before its size is known
        raise DataError(f"{file} has more than {MAX_PIXELS:,} pixels. Shrink or delete it.") from error
    except UnidentifiedImageError as error:
        for mark, at, kind in OTHER_FORMATS:
            if content.startswith(mark, at):
                raise DataError(f"{file} is a {kind} image, which is not supported. Save it as PNG.") from error
        raise DataError(f"{file} is not an image. Replace or delete it.") from error
    except Exception as error:  # damaged files raise many types in Pillow
        raise DataError(f"{file} is damaged ({error}). Replace or delete it.") from error


def _size_of_webp(content: bytes) -> tuple[int, int]:
    """Width and height that a WebP file states; 0 and 0 for others. Pillow allocates memory before it reports them."""
    kind, head = content[8:16], content[:30].ljust(30, b"\0")
    if kind == b"WEBPVP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if kind == b"WEBPVP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"WEBPVP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return 0, 0


def _in_8_bits(picture: Image.Image) -> Image.Image:
    """A picture reduced to the high bytes of its values. Pillow keeps 16 bits only for grey pictures, and would clip them."""
    if not picture.mode.startswith("I;16"):
        return picture
    values = np.asarray(picture)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    if isinstance(clear := picture.info.get("transparency"), int):  # the value that is transparent
        grey.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return grey


def check_size(width: int, height: int, file: Path | str) -> None:
    """Raises a DataError if an image has more than `MAX_PIXELS` by its header."""
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{file} has {width} x {height} pixels: more than {MAX_PIXELS:,} are not decoded. Shrink or delete it."
        )
