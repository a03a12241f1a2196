"""Decoders of pictures for extraction: those of the processor, or those of a GPU through torchcodec.

The processor's are PyAV for video files, and libjpeg-turbo and Pillow for images. The GPU's round colours a little
otherwise, so features made with them are others. Files that the GPU cannot decode exactly like the processor, frame by frame,
are decoded by the processor, and every picture says so.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import av
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from abaw.core.errors import DataError, UsageError, first_line
from abaw.media import orientation
from abaw.media.decoder import PictureDecoder, open_media, picture_stream
from abaw.media.images import JPEG, read_image
from abaw.media.pictures import SLACK_S, Picture, as_shown_at, read_pictures, read_pictures_at, shrink
from abaw.media.stamps import read_stamps

if TYPE_CHECKING:
    import torch

COLOURS = ("Gray", "YCbCr")  # of JPEG files that nvJPEG takes
END_OF_IMAGE, TAIL_BYTES = b"\xff\xd9", 64  # the end of a JPEG that is not cut off
FRAMES_AT_ONCE = 16  # a picture of 4K takes 25 MB


class Decoded(NamedTuple):
    """A picture, (height, width, 3) uint8 RGB, upright; `by_processor` where a GPU should have decoded it."""

    image: NDArray[np.uint8]
    by_processor: bool = False


class Decoder(Protocol):
    """Decodes pictures for an extraction."""

    def images(self, files: Sequence[str], contents: Sequence[bytes]) -> list[Decoded | DataError]:
        """The images of some files, in order, each with the error that it has instead.

        Args:
            files: their paths, for errors.
            contents: their bytes.
        """

    def pictures_at(self, file: Path, times_s: Sequence[float], shorter_side: int) -> list[Decoded]:
        """See `abaw.media.pictures.read_pictures_at`.

        Raises:
            DataError: not one frame can be decoded.
        """

    def pictures(self, file: Path, shorter_side: int, notes: list[str]) -> Iterator[tuple[Picture, bool]]:
        """All pictures of a video file, see `abaw.media.pictures.read_pictures`, each as in `Decoded.by_processor`.

        Raises:
            DataError: not one frame can be decoded.
        """


class ProcessorDecoder:
    """Decodes on the processor."""

    def images(self, files: Sequence[str], contents: Sequence[bytes]) -> list[Decoded | DataError]:
        """See `Decoder`."""
        return [_on_processor(file, content, False) for file, content in zip(files, contents, strict=True)]

    def pictures_at(self, file: Path, times_s: Sequence[float], shorter_side: int) -> list[Decoded]:
        """See `Decoder`."""
        return [Decoded(picture.image) for picture in read_pictures_at(file, times_s, shorter_side)]

    def pictures(self, file: Path, shorter_side: int, notes: list[str]) -> Iterator[tuple[Picture, bool]]:
        """See `Decoder`."""
        return ((picture, False) for picture in read_pictures(file, None, shorter_side, n_threads=0, notes=notes))


PROCESSOR = ProcessorDecoder()


def _on_processor(file: str, content: bytes, is_fallback: bool) -> Decoded | DataError:
    try:
        return Decoded(read_image(file, content), is_fallback)
    except DataError as error:
        return error


def check_gpu_decoder() -> None:
    """Check that torchcodec is installed, without loading it.

    Raises:
        UsageError: it is not.
    """
    if find_spec("torchcodec") is None:
        raise UsageError(
            "--decoder gpu needs torchcodec. Install it with: pip install '.[gpu]' in abaw's folder; or use --decoder cpu."
        )


class TorchcodecDecoder:
    """Decodes JPEG files in batches with nvJPEG, and video files with NVDEC; used by several threads at once.

    Args:
        device: a CUDA device. The CPU, where torchcodec uses libjpeg-turbo and FFmpeg, is for tests.

    Raises:
        UsageError: torchcodec is not installed, or cannot be loaded.
    """

    def __init__(self, device: "torch.device") -> None:
        check_gpu_decoder()
        try:
            self._codec: Any = import_module("torchcodec.decoders")
        except Exception as error:  # without libraries of FFmpeg it raises a RuntimeError, others in other versions
            raise UsageError(
                f"--decoder gpu needs torchcodec, which cannot be loaded ({first_line(error)}). Install FFmpeg, or use "
                "--decoder cpu."
            ) from error
        if device.type == "cuda" and device.index is None:  # its C++ code takes a number
            import torch

            device = torch.device("cuda", torch.cuda.current_device())
        self._device, self._of_thread = device, threading.local()

    def images(self, files: Sequence[str], contents: Sequence[bytes]) -> list[Decoded | DataError]:
        """See `Decoder`."""
        suited = [number for number, content in enumerate(contents) if _suits_nvjpeg(content)]
        images: dict[int, NDArray[np.uint8]] = {}
        with suppress(RuntimeError), self._stream():  # one damaged file costs the batch: the processor tells which
            images = dict(zip(suited, self._decode_jpegs([contents[number] for number in suited]), strict=True))
        return [
            Decoded(images[number]) if number in images else _on_processor(file, content, True)
            for number, (file, content) in enumerate(zip(files, contents, strict=True))
        ]

    def pictures_at(self, file: Path, times_s: Sequence[float], shorter_side: int) -> list[Decoded]:
        """See `Decoder`."""
        try:
            with self._stream():
                return [Decoded(image) for image in self._decode_video(file, times_s, shorter_side)]
        except (RuntimeError, ValueError, IndexError):  # as torchcodec reports what it cannot decode
            return [Decoded(picture.image, True) for picture in read_pictures_at(file, times_s, shorter_side)]

    def pictures(self, file: Path, shorter_side: int, notes: list[str]) -> Iterator[tuple[Picture, bool]]:
        """See `Decoder`. The clock of the file is found out before."""
        n_read = 0
        try:
            for picture in self._decode_all(file, shorter_side):
                yield picture, False
                n_read += 1
        except (RuntimeError, ValueError, IndexError):
            for picture in read_pictures(file, None, shorter_side, n_threads=0):
                if picture.number >= n_read:
                    yield picture, True
        notes += read_stamps(file).notes(file.name)

    def _decode_jpegs(self, contents: list[bytes]) -> list[NDArray[np.uint8]]:
        """Images of JPEG files that nvJPEG takes.

        Raises:
            RuntimeError: one of them cannot be decoded.
        """
        if not contents:
            return []
        import torch

        decoded = self._codec.decode_jpeg(contents, mode="RGB", device=self._device)
        if len({image.shape for image in decoded}) == 1:  # a single copy
            return list(torch.stack(decoded).permute(0, 2, 3, 1).contiguous().cpu().numpy())
        return [image.permute(1, 2, 0).contiguous().cpu().numpy() for image in decoded]

    def _decode_video(self, file: Path, times_s: Sequence[float], shorter_side: int) -> Iterator[NDArray[np.uint8]]:
        """The pictures shown at some times.

        Raises:
            RuntimeError, ValueError, IndexError: this decoder does not number the pictures as PyAV does, or cannot
                decode one.
        """
        decoder, shown_s = self._open(file)
        numbers = as_shown_at(shown_s, times_s)
        images: dict[int, NDArray[np.uint8]] = {}
        needed = sorted(set(numbers))
        for start in range(0, len(needed), FRAMES_AT_ONCE):
            some = needed[start : start + FRAMES_AT_ONCE]
            images |= zip(some, self._some(decoder, shown_s, some, shorter_side), strict=True)
        return iter([images[number] for number in numbers])

    def _decode_all(self, file: Path, shorter_side: int) -> Iterator[Picture]:
        """All pictures; raises like `_decode_video`."""
        decoder, shown_s = self._open(file)
        for start in range(0, len(shown_s), FRAMES_AT_ONCE):
            some = list(range(start, min(start + FRAMES_AT_ONCE, len(shown_s))))
            with self._stream():
                images = self._some(decoder, shown_s, some, shorter_side)
            yield from (
                Picture(number, float(shown_s[number]), image) for number, image in zip(some, images, strict=True)
            )

    def _open(self, file: Path) -> tuple[Any, NDArray[np.float64]]:
        """A decoder of a file, and when its pictures are shown; raises like `_decode_video`."""
        stamps = read_stamps(file)
        shown_s, index = stamps.times_s(), _upright_stream(file)
        decoder = self._codec.VideoDecoder(
            str(file), stream_index=index, dimension_order="NHWC", device=self._device, seek_mode="exact"
        )
        if stamps.n_broken or len(stamps.jumps) or len(decoder) != len(shown_s) or decoder.cpu_fallback:
            raise ValueError("the pictures may be others")
        return decoder, shown_s

    def _some(
        self, decoder: Any, shown_s: NDArray[np.float64], numbers: list[int], shorter_side: int
    ) -> list[NDArray[np.uint8]]:
        """Pictures of some numbers; raises like `_decode_video`."""
        batch = decoder.get_frames_at(numbers)
        if np.abs(batch.pts_seconds.cpu().numpy() - shown_s[numbers]).max() > SLACK_S:
            raise ValueError("the pictures are others")
        return [shrink(image, shorter_side) for image in batch.data.cpu().numpy()]

    def _stream(self) -> AbstractContextManager[object]:
        """A CUDA stream of this thread: waiting for a copy waits for nothing else on the device."""
        if self._device.type != "cuda":
            return nullcontext()
        import torch

        if not hasattr(self._of_thread, "stream"):
            self._of_thread.stream = torch.cuda.Stream(self._device)
        return torch.cuda.stream(self._of_thread.stream)


def _suits_nvjpeg(content: bytes) -> bool:
    """True for a whole and upright JPEG of common colours. nvJPEG would fill missing parts."""
    if not content.startswith(JPEG) or END_OF_IMAGE not in content[-TAIL_BYTES:]:
        return False
    with suppress(ValueError):
        colours = simplejpeg.decode_jpeg_header(content)[2]
        return colours in COLOURS and orientation.of_jpeg(content) == orientation.UPRIGHT
    return False


def _upright_stream(file: Path) -> int:
    """Number of the stream of pictures that players show.

    Raises:
        ValueError: its pictures have to be turned, or none can be decoded.
    """
    try:
        with open_media(file) as container:
            stream = picture_stream(container, file)
            first = next(iter(PictureDecoder(container, stream)), None)
            if first is not None and orientation.Turning().of(first) == orientation.UPRIGHT:
                return stream.index
    except (av.FFmpegError, OSError) as error:
        raise ValueError(first_line(error)) from error
    raise ValueError("the pictures have to be turned")
