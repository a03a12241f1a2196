"""What sources of frames have in common that read one file from its beginning."""

from functools import cached_property
from pathlib import Path

from abaw.core.clock import Clock
from abaw.datasets.frames import Remark
from abaw.media.file_content import content_of, has_content


class OneFile:
    """The part of a `FrameSource` that depends on nothing but its file; what is found out about the file is kept.

    Attributes:
        path: the file that holds the frames.
    """

    path: Path
    divisible = False  # decoding starts at the beginning of the file
    has_time_axis = True

    def digest(self) -> str:
        """See `FrameSource`."""
        return self._digest

    @cached_property
    def _digest(self) -> str:
        return self._find_digest()

    def content(self) -> str:
        """`content_of` the file before it was read."""
        return self._content

    @cached_property
    def _content(self) -> str:
        return content_of(self.path)

    def has_content(self, content: str) -> bool:
        """See `abaw.media.file_content.has_content`."""
        return has_content(self.path, content)

    def clock(self) -> Clock:
        """See `FrameSource`; the file is read when this is first asked for.

        Raises:
            DataError: the file cannot be read.
        """
        return self._clock

    @cached_property
    def _clock(self) -> Clock:
        return self._read_clock()

    def file_of(self, row: int) -> Path | None:
        """None, since one file holds all rows."""
        return None

    def remarks(self) -> list[Remark]:
        """Nothing."""
        return []

    def why_empty(self) -> str:
        """See `FrameSource`."""
        return f"{self.path} holds no frames."

    def _find_digest(self) -> str:
        raise NotImplementedError

    def _read_clock(self) -> Clock:
        raise NotImplementedError
