"""Video files whose pictures show their number, written and read."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


class NumberedVideos:
    """Writes real video files whose pictures show their number from 0 in eight patches, black or white, from the left."""

    def write(
        self,
        file: Path,
        n_frames: int = 10,
        rate: int = 30,
        size: tuple[int, int] = (128, 64),
        times_ms: Iterable[int] | None = None,
        sound: np.ndarray | None = None,
        rotation: int = 0,
        codec: str = "libx264",
        pictures: Iterable[np.ndarray] | None = None,
    ) -> Path:
        """Write a file; its container is that of its suffix.

        Args:
            times_ms: of each frame; else they follow at `rate`.
            sound: (samples,) float32 at 16 kHz.
            pictures: shown instead of numbers.
        """
        file.parent.mkdir(parents=True, exist_ok=True)
        times = list(times_ms) if times_ms is not None else range(n_frames)
        base = Fraction(1, 1000) if times_ms is not None else Fraction(1, rate)
        shown = list(pictures) if pictures is not None else [self.picture(n, size) for n in range(len(times))]
        with av.open(str(file), "w", options={"movflags": "faststart"} if file.suffix == ".mp4" else {}) as container:
            stream = container.add_stream(codec, rate=rate, options={"crf": "12", "g": "10"})
            stream.height, stream.width, stream.pix_fmt = (*shown[0].shape[:2], "yuv420p")
            stream.time_base = stream.codec_context.time_base = base
            if rotation:
                stream.set_display_rotation(rotation)
            voice = container.add_stream("aac", rate=16000, layout="mono") if sound is not None else None
            for picture, time in zip(shown, times, strict=True):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = time, base
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
            if voice is not None and sound is not None:
                frame = av.AudioFrame.from_ndarray(sound[None].astype(np.float32), "fltp", "mono")
                frame.sample_rate, frame.pts, frame.time_base = 16000, 0, Fraction(1, 16000)
                container.mux(voice.encode(frame))
                container.mux(voice.encode(None))
        return file

    def picture(self, number: int, size: tuple[int, int] = (128, 64)) -> np.ndarray:
        """(height, width, 3) uint8 that shows a number up to 255."""
        width, height = size
        bits = [255 * (number >> bit & 1) for bit in range(8)]
        row = np.repeat(np.array(bits, dtype=np.uint8), -(-width // 8))[:width]
        return np.broadcast_to(row[None, :, None], (height, width, 3)).copy()

    def number(self, image: np.ndarray) -> int:
        """The number that a decoded picture shows."""
        width = image.shape[1]
        middles = [image[image.shape[0] // 2, round(width * (bit + 0.5) / 8), 1] > 128 for bit in range(8)]
        return sum(1 << bit for bit, is_set in enumerate(middles) if is_set)
