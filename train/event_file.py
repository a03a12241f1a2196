"""A file of scalars for TensorBoard, written as they come: no thread can lose the error of a full disk."""

import os
import socket
import time
from itertools import count
from pathlib import Path
from typing import Any

from abaw.core.system_errors import naming

_numbers = count()  # in names: a process may open several files within a second


class EventFile:
    """A new file of events in a folder, in the format that TensorBoard reads: the one of `SummaryWriter`."""

    def __init__(self, folder: Path, purge_step: int) -> None:
        """Make the file.

        Args:
            purge_step: TensorBoard hides what older files of the folder have from this step on.

        Raises:
            ImportError: TensorBoard is not installed.
            OSError: the file cannot be written.
        """
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():010.0f}.{socket.gethostname()}.{os.getpid()}.{next(_numbers)}"
        self._path = folder / name
        self._records = RecordWriter(self._path.open("wb"))
        self._write(file_version="brain.Event:2")
        self._write(step=purge_step, file_version="brain.Event:2")
        self._write(step=purge_step, session_log=SessionLog(status=SessionLog.START))
        self.flush()

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Add a scalar."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._write(step=step, summary=Summary(value=[Summary.Value(tag=tag, simple_value=value)]))

    def flush(self) -> None:
        """Write what is still in the buffer.

        Raises:
            OSError: it cannot be written; the error names the file.
        """
        with naming(self._path):
            self._records.flush()

    def close(self) -> None:
        """Close the file."""
        with naming(self._path):
            self._records.close()

    def _write(self, **fields: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._records.write(Event(wall_time=time.time(), **fields).SerializeToString())
