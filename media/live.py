"""Pictures of a camera or a stream, as they come."""

from collections.abc import Iterator
from pathlib import Path

import av

from abaw.core.errors import DataError
from abaw.media.decoder import CONTAINERS, MAX_PIXELS
from abaw.media.orientation import Turning
from abaw.media.pictures import Picture, as_rgb

PROTOCOLS = "http,https,httpproxy,tcp,tls,udp,rtp,rtsp,srt,crypto"  # none that reads files of this machine
FORMATS = f"{CONTAINERS},rtsp,rtp,sdp,mpjpeg,v4l2,video4linux2"
DEVICES = "/dev/video"
SILENCE_S = 20.0  # a source that is silent for longer is gone


def is_live(source: str | Path) -> bool:
    """True for the URL of a camera or stream, or a camera of this machine such as /dev/video0."""
    return "://" in str(source) or str(source).startswith(DEVICES)


class LiveVideo:
    """A camera or stream, opened; iterate it once.

    Attributes:
        fps: its frame rate; 0 if it states none.

    Raises:
        DataError: it cannot be opened, or has no pictures.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        device = "v4l2" if source.startswith(DEVICES) else None
        protocols = {} if device else {"protocol_whitelist": PROTOCOLS}
        try:
            self._container = av.open(
                source,
                format=device,
                options={"format_whitelist": FORMATS, "max_pixels": str(MAX_PIXELS), **protocols},
                timeout=SILENCE_S,
                metadata_errors="replace",
            )
        except (av.FFmpegError, OSError) as error:
            raise self._error(error) from error
        if not self._container.streams.video:
            raise DataError(f"{source} has no pictures. Name another stream.")
        rate = self._container.streams.video[0].average_rate
        self.fps = float(rate) if rate else 0.0

    def __iter__(self) -> Iterator[Picture]:
        """Yield the pictures; those that cannot be decoded are skipped.

        Raises:
            DataError: the source fails.
        """
        turning, number = Turning(), 0
        with self._container:
            try:
                for packet in self._container.demux(self._container.streams.video[0]):
                    try:
                        frames = packet.decode()
                    except av.InvalidDataError:
                        continue  # such as what comes before the first key frame
                    for frame in frames:
                        time_s = frame.time if frame.time is not None else number / (self.fps or 25.0)
                        yield Picture(number, float(time_s), as_rgb(frame, 0, turning.of(frame)))
                        number += 1
            except (av.FFmpegError, OSError) as error:
                raise self._error(error) from error

    def _error(self, error: Exception) -> DataError:
        return DataError(f"{self._source} cannot be read ({error}). See whether another player shows it.")
