"""A file for libraries that lose an error of the disk, or crash over it: HDF5, FFmpeg, PIL, NumPy."""

import io
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self


class OutputStream(io.RawIOBase, BinaryIO):
    """A new file whose errors wait until the library is done with it.

    After the first error nothing more is written, and the library reads zeros where the file ends. HDF5 would crash if an
    error reached it while it closes the file. Use it as a context manager around the library's own: when the block ends,
    the error is raised, also in place of others that followed from it.
    """

    def __init__(self, path: Path) -> None:
        """Open a file for writing.

        Raises:
            OSError: it cannot be opened.
        """
        self._path = path
        self._file = path.open("w+b", buffering=0)
        self._error: OSError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
        if error is None or isinstance(error, Exception):
            self.check()

    def check(self) -> None:
        """Raise the OSError that is waiting, if there is one."""
        if self._error is not None:
            raise self._error

    def readable(self) -> bool:
        """True: HDF5 reads what it wrote."""
        return True

    def writable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read; zeros behind the end after an error."""
        n_read = self._do(self._file.readinto, buffer) or 0
        if self._error is None:
            return n_read
        with memoryview(buffer).cast("B") as view:
            view[n_read:] = bytes(len(view) - n_read)
            return len(view)

    def write(self, content: Any) -> int:
        """Write all of it, unless an error is waiting."""
        with memoryview(content).cast("B") as view:
            done = 0
            while done < len(view) and self._error is None:
                done += self._do(self._file.write, view[done:]) or 0
            return len(view)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to another place."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """The place."""
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        """Cut the file off, or make it longer."""
        size = self.tell() if size is None else size
        if self._error is None:
            self._do(self._file.truncate, size)
        return size

    def close(self) -> None:
        """Close the file; an error of that waits, too."""
        if not self._file.closed:
            self._do(self._file.close)
        super().close()

    def _do(self, action: Any, *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except OSError as error:
            error.filename = error.filename or str(self._path)
            self._error = self._error or error
            return None
