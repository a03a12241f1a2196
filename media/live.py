"""Pictures of a camera or a stream, as they come."""

import os
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from pathlib import Path
from queue import Empty, Queue
from threading import Event, Thread
from time import monotonic
from typing import TypeVar

import av
from av.container import InputContainer

from abaw.core.errors import DataError, UsageError
from abaw.media.decoder import CONTAINERS, MAX_PIXELS
from abaw.media.orientation import Turning
from abaw.media.pictures import Picture, as_rgb

PROTOCOLS = "http,https,httpproxy,tcp,tls,udp,rtp,rtsp,srt,crypto"  # none that reads files of this machine
WITHOUT_CLOCK = "mpjpeg"  # FFmpeg makes up times of its pictures
FORMATS = f"{CONTAINERS},rtsp,rtp,sdp,{WITHOUT_CLOCK},v4l2,video4linux2"
DEVICES = "/dev/video"
STANDARD_INPUT = "-"
DEFAULT_FPS = 25.0
SILENCE_S = 20.0  # a source that is silent for longer is gone

Item = TypeVar("Item")


def is_live(source: str | Path) -> bool:
    """True for the URL of a camera or stream, a camera of this machine such as /dev/video0, and - for standard input."""
    return "://" in str(source) or str(source).startswith(DEVICES) or str(source) == STANDARD_INPUT


class LiveVideo:
    """A camera or stream, opened; iterate it once.

    Attributes:
        fps: its frame rate; 25 if it states none.

    Raises:
        DataError: it cannot be opened, or has no pictures.
        UsageError: standard input is a terminal.
    """

    def __init__(self, source: str) -> None:
        self._source, url = source, source
        device = "v4l2" if source.startswith(DEVICES) else None
        protocols = {} if device else {"protocol_whitelist": PROTOCOLS}
        if source == STANDARD_INPUT:
            self._source, url, protocols = "Standard input", "pipe:0", {"protocol_whitelist": "pipe"}
            if os.isatty(0):
                raise UsageError(
                    "Standard input is a terminal. Pipe a video into the command: ... | abaw predict --stream -"
                )

        def open_source() -> Iterator[InputContainer]:
            yield av.open(
                url,
                format=device,
                options={"format_whitelist": FORMATS, "max_pixels": str(MAX_PIXELS), **protocols},
                timeout=SILENCE_S,
                metadata_errors="replace",
            )

        try:
            self._container = next(_detached(open_source()))
        except (av.FFmpegError, OSError) as error:
            raise self._error(error) from error
        if not self._container.streams.video:
            raise DataError(f"{self._source} has no pictures. Name another stream.")
        stream = self._container.streams.video[0]
        self.fps = float(stream.average_rate or stream.guessed_rate or DEFAULT_FPS)

    def __iter__(self) -> Iterator[Picture]:
        """Yield the pictures; those that cannot be decoded are skipped.

        Times are those of arrival if the source has no clock. Where its clock goes back, as at a restart, they continue
        one frame after the last.

        Raises:
            DataError: the source fails; the pictures before come first.
        """
        yield from _detached(self._pictures())

    def _pictures(self) -> Iterator[Picture]:
        turning, number, last_s, shift_s, start_s = Turning(), 0, -inf, 0.0, monotonic()
        has_clock = self._container.format.name != WITHOUT_CLOCK
        with self._container:
            try:
                for frame in self._frames():
                    stamp_s = frame.time if has_clock else monotonic() - start_s
                    time_s = (number / self.fps if stamp_s is None else float(stamp_s)) + shift_s
                    if time_s < last_s:
                        shift_s += last_s + 1 / self.fps - time_s
                        time_s = last_s + 1 / self.fps
                    yield Picture(number, time_s, as_rgb(frame, 0, turning.of(frame)))
                    number, last_s = number + 1, time_s
            except (av.FFmpegError, OSError) as error:
                raise self._error(error, number) from error

    def _frames(self) -> Iterator[av.VideoFrame]:
        """The decoded frames; when the source fails, first those that the decoder still holds."""
        stream = self._container.streams.video[0]
        try:
            for packet in self._container.demux(stream):
                with suppress(av.InvalidDataError):  # such as what comes before the first key frame
                    yield from packet.decode()
        except (av.FFmpegError, OSError):
            with suppress(av.FFmpegError):
                for frame in stream.decode(None):
                    frame.time_base = stream.time_base  # only frames of packets have one
                    yield frame
            raise

    def _error(self, error: Exception, n_pictures: int = 0) -> DataError:
        why = f"it sent nothing for {SILENCE_S:g} s" if isinstance(error, av.ExitError) else error
        if n_pictures:
            return DataError(
                f"{self._source} broke off after {n_pictures:,} pictures ({why}). Run the same command again when it is back."
            )
        return DataError(f"{self._source} cannot be read ({why}). See whether another player shows it.")


def _detached(items: Iterator[Item]) -> Iterator[Item]:
    """The same items from a thread that nobody waits for: Ctrl-C ends the program while FFmpeg waits for a source.

    The thread ends with the item after which the caller stops, and closes what it reads.
    """
    ready: Queue[tuple[Item | None, Exception | None]] = Queue(1)
    stopped = Event()

    def read() -> None:
        error: Exception | None = None
        try:
            for item in items:
                ready.put((item, None))
                if stopped.is_set():
                    return
        except Exception as raised:
            error = raised
        ready.put((None, error))

    Thread(target=read, daemon=True).start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stopped.set()
        with suppress(Empty):  # or the thread would wait for its place
            ready.get_nowait()
