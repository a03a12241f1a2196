"""The pictures of a video file, in the order of its decoder."""

from array import array
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from abaw.core.errors import DataError
from abaw.media.links import check_file

# Playlists are excluded: they name other files, which FFmpeg would open, whatever the suffix of the playlist.
CONTAINERS = (
    "mov,mp4,matroska,webm,avi,mpeg,mpegts,asf,flv,wav,flac,mp3,ogg,aac,"
    "h264,hevc,m4v,mpegvideo,mjpeg,dv,mxf,w64,aiff,caf,ac3,amr"
)
MOST_BROKEN_PACKETS = 1000
MAX_PIXELS = 8192 * 8192  # per picture; 8K has half of it. A decoder holds about twenty pictures


def open_media(file: Path) -> InputContainer:
    """Open a file of pictures or sound for reading.

    Raises:
        DataError: it is not a file, or is a broken link.
        av.FFmpegError, OSError: it cannot be read, or its format is not in `CONTAINERS`.
    """
    return av.open(
        str(check_file(file)),
        # FFmpeg decodes the first pictures of some codecs when it opens a file
        options={"format_whitelist": CONTAINERS, "max_pixels": str(MAX_PIXELS)},
        metadata_errors="replace",  # titles in any encoding
    )


def picture_stream(container: InputContainer, file: Path) -> VideoStream:
    """The stream of pictures that players show: the default one, never an album cover.

    Raises:
        DataError: there is no such stream, or its pictures are larger than `MAX_PIXELS`.
    """
    streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not streams:
        raise DataError(f"{file} has no pictures, only sound. Replace it, or delete it and use --fps.")
    best = container.streams.best("video")
    stream = next((s for s in streams if s is best), streams[0])
    width, height = stream.codec_context.width, stream.codec_context.height
    if not width * height:  # unknown, or too large for the decoder
        width, height = _stated_size(file, stream.index)
    if width * height > MAX_PIXELS:
        raise DataError(
            f"{file} has pictures of {width} x {height} pixels: more than {MAX_PIXELS:,} are not decoded. Shrink it, or "
            "delete it."
        )
    return stream


def _stated_size(file: Path, index: int) -> tuple[int, int]:
    """Width and height of a stream as the container states them, without a decoder; 0 and 0 if it does not."""
    with av.open(str(file), options={"format_whitelist": CONTAINERS, "codec_whitelist": "none"}) as container:
        context = container.streams[index].codec_context if index < len(container.streams) else None
        return (context.width, context.height) if isinstance(context, VideoCodecContext) else (0, 0)


class PictureDecoder:
    """Decodes the pictures of an open file in the order they are shown; damaged ones are skipped.

    Args:
        n_threads: of the decoder; 0 takes one per processor.
        times_alone: only the times matter, so the pictures may be decoded at lower quality.
        second: another stream, and a function that is called with each of its packets.

    Attributes:
        n_frames: number of pictures decoded so far.
        n_broken: number of packets so far that could not be decoded.
        broken_after: the number of pictures before each broken packet.
        n_packets: number of packets so far.
        due: presentation times of the packets that should be shown.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        n_threads: int = 1,
        times_alone: bool = False,
        second: tuple[Stream, Callable[[Packet], None]] | None = None,
    ) -> None:
        self._stream, self._second = stream, second
        self._packets = container.demux([stream] if second is None else [stream, second[0]])
        stream.codec_context.thread_count = n_threads
        options = {"max_pixels": str(MAX_PIXELS)}  # pictures may grow within a stream
        stream.codec_context.options = options | ({"skip_loop_filter": "all"} if times_alone else {})
        self.n_frames = self.n_broken = self.n_packets = 0
        self.broken_after: list[int] = []
        self.due: array[int] = array("q")

    def __iter__(self) -> Iterator[VideoFrame]:
        """The pictures.

        Raises:
            av.FFmpegError, OSError: the container cannot be read.
        """
        while self.n_broken <= MOST_BROKEN_PACKETS:
            frames: Sequence[object] = ()
            try:
                packet = next(self._packets, None)
                if packet is None:
                    return
                is_picture = self._second is None or packet.stream.index == self._stream.index
                if is_picture:
                    self._count(packet)
                    frames = packet.decode()
            except (av.error.EOFError, IndexError):  # PyAV fails at the end if a stream appeared late
                return
            except av.FFmpegError:  # one damaged packet; a container that cannot continue raises the same, then ends
                self.n_broken += 1
                self.broken_after.append(self.n_frames)
                continue
            if self._second is not None and not is_picture:
                self._second[1](packet)
            for frame in frames:
                assert isinstance(frame, VideoFrame)
                self.n_frames += 1
                yield frame

    def _count(self, packet: Packet) -> None:
        self.n_packets += packet.dts is not None or packet.size > 0  # the last packet of a stream is empty
        if packet.size and packet.pts is not None and not packet.is_discard:
            self.due.append(packet.pts)
