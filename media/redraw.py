"""Rewriting a video file with changed pictures: the same frames at the same times, and the same sound."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from abaw.core.errors import DataError
from abaw.core.output_stream import OutputStream
from abaw.media.decoder import PictureDecoder, open_media, picture_stream
from abaw.media.orientation import Orientation, Turning
from abaw.media.picture_times import RESTART_S
from abaw.media.pictures import as_rgb
from abaw.media.stamps import Stamps, read_stamps
from abaw.media.tracks import sound_track

COPIED_SOUND = ("aac", "mp3", "ac3", "eac3", "opus", "alac", "flac")  # MP4 can hold these unchanged; others become AAC
AAC_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000)
OPTIONS = {"crf": "20", "preset": "veryfast"}

# takes a frame's number from 0 and its (height, width, 3) uint8 RGB; returns pictures of one size
Draw = Callable[[int, NDArray[np.uint8]], NDArray[np.uint8]]


def redraw(file: Path, out: Path, draw: Draw, n_threads: int = 0) -> Iterator[int]:
    """Write a video as H.264 in MP4 with changed pictures, one at a time.

    Frames have the numbers of `abaw.media.pictures.read_pictures` and the times of the file. Pictures with odd sides
    get another row or column, which H.264 requires. A picture whose size differs from the first is scaled to it.

    Args:
        draw: returns the picture to show instead.
        n_threads: of the decoder; 0 takes one per processor.

    Yields:
        The number of each frame that was written.

    Raises:
        DataError: the file, or every one of its frames, cannot be read.
    """
    stamps = read_stamps(file)
    try:
        with OutputStream(out) as stream, open_media(file) as source, av.open(stream, "w", format="mp4") as target:
            for number in _Film(source, picture_stream(source, file), stamps, target, draw, n_threads).run():
                stream.check()
                yield number
    except av.FFmpegError as error:
        raise DataError(f"{file} could not be redrawn ({error}). Check the file.") from error


class _Film:
    """Copies a container to another, with its pictures redrawn."""

    def __init__(
        self,
        source: av.container.InputContainer,
        video: av.VideoStream,
        stamps: Stamps,
        target: av.container.OutputContainer,
        draw: Draw,
        n_threads: int,
    ) -> None:
        self._source, self._video, self._stamps = source, video, stamps
        self._target, self._draw, self._n_threads = target, draw, n_threads
        self._audio = sound_track(source)
        self._pictures: av.VideoStream | None = None
        self._sound: av.AudioStream | None = None
        self._resampler: av.AudioResampler | None = None  # for sound that cannot be copied
        self._waiting: list[av.Packet] = []  # sound packets before the first picture
        self._n_frames, self._last_pts, self._turning = 0, 0, Turning()
        self._later = max(0, -int(stamps.shown[0]))  # MP4 begins at 0
        self._heard: int | None = None  # time of the last packet or frame of sound
        self._sound_shift = 0

    def run(self) -> Iterator[int]:
        second = (self._audio, self._take_sound) if self._audio is not None else None
        decoder = PictureDecoder(self._source, self._video, self._n_threads, second=second)
        for frame in decoder:
            self._take_picture(frame)
            yield self._n_frames - 1
        if self._pictures is None:
            raise DataError(f"{self._source.name} has no picture that can be decoded.")
        self._target.mux(self._pictures.encode(None))
        if self._sound is not None and self._resampler is not None:
            self._encode_sound(None)
            self._target.mux(self._sound.encode(None))

    @property
    def _is_encoded(self) -> bool:
        return self._audio is not None and self._audio.codec_context.codec.canonical_name not in COPIED_SOUND

    def _take_picture(self, frame: av.VideoFrame) -> None:
        turned = self._turning.of(frame)
        image = _even(self._draw(self._n_frames, as_rgb(frame, orientation=turned)))
        shown, base = self._stamps.shown, self._stamps.base
        pts = int(shown[min(self._n_frames, len(shown) - 1)]) + self._later
        if self._pictures is None:
            self._begin(image, base, _pixel_shape(self._video, turned))
            self._last_pts = pts - 1
        assert self._pictures is not None
        drawn = av.VideoFrame.from_ndarray(image, format="rgb24")
        drawn = drawn.reformat(self._pictures.width, self._pictures.height, "yuv420p")
        # of two at the same time the second comes a tick later
        drawn.pts = self._last_pts = max(pts, self._last_pts + 1)
        drawn.time_base = base
        self._n_frames += 1
        self._target.mux(self._pictures.encode(drawn))

    def _begin(self, image: NDArray[np.uint8], base: Fraction, pixel: Fraction | None) -> None:
        rate = self._video.average_rate or self._video.guessed_rate or Fraction(25)
        self._pictures = self._target.add_stream("libx264", rate=rate, options=OPTIONS)
        self._pictures.height, self._pictures.width = image.shape[:2]
        self._pictures.pix_fmt = "yuv420p"
        if pixel is not None:
            self._pictures.codec_context.sample_aspect_ratio = pixel
        self._pictures.time_base = self._pictures.codec_context.time_base = base
        if self._audio is not None and self._is_encoded:
            rate_hz = self._audio.codec_context.sample_rate
            rate_hz = rate_hz if rate_hz in AAC_RATES_HZ else 48_000
            layout = "mono" if self._audio.codec_context.channels == 1 else "stereo"
            self._sound = self._target.add_stream("aac", rate=rate_hz, layout=layout)
            self._resampler = av.AudioResampler("fltp", layout, rate_hz)
        elif self._audio is not None:
            self._sound = self._target.add_stream_from_template(self._audio)
        for packet in self._waiting:
            self._take_sound(packet)
        self._waiting = []

    def _take_sound(self, packet: av.Packet) -> None:
        if self._sound is None:
            self._waiting.append(packet)
        elif self._resampler is not None:
            frames: list = []
            with suppress(av.FFmpegError):  # a damaged packet
                frames = packet.decode()
            for frame in frames:
                if frame.pts is not None and frame.time_base is not None:
                    frame.pts = self._placed(frame.pts, frame.time_base)
                self._encode_sound(frame)
        elif packet.dts is not None and packet.time_base is not None:
            dts = self._placed(packet.dts, packet.time_base)
            packet.pts = packet.pts if packet.pts is None else packet.pts + dts - packet.dts
            packet.dts, packet.stream = dts, self._sound
            with suppress(av.error.InvalidDataError, av.error.ArgumentError):  # a damaged packet
                self._target.mux(packet)

    def _placed(self, time: int, base: Fraction) -> int:
        """A time of the sound on the clock of the pictures, which has no jumps, see `Stamps`; always after the previous one."""
        stamps, time_s = self._stamps, time * base
        for after, less in stamps.jumps.tolist():
            if time_s >= after * stamps.base - Fraction(RESTART_S):
                time -= round(less * stamps.base / base)
        time += self._sound_shift
        if self._heard is not None and time <= self._heard:
            if (self._heard - time) * base > RESTART_S:  # another recording, which continues from here
                self._sound_shift += self._heard + 1 - time
            time = self._heard + 1
        self._heard = time
        return time + round(self._later * stamps.base / base)

    def _encode_sound(self, frame: av.AudioFrame | None) -> None:
        """Encode a frame, or the remaining samples (None)."""
        assert self._sound is not None and self._resampler is not None
        for resampled in self._resampler.resample(frame):
            self._target.mux(self._sound.encode(resampled))


def _pixel_shape(stream: av.VideoStream, orientation: Orientation) -> Fraction | None:
    """Width by height of a displayed pixel in the upright picture; None if the file does not state it."""
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if not ratio:
        return None
    return 1 / ratio if orientation.is_turned else ratio


def _even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The picture with its last row and column repeated if it has an odd number of them."""
    height, width = image.shape[:2]
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
