"""Writing features to the store: one thread, and a writer for each video in progress."""

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from abaw.core.claim_files import LostClaimError
from abaw.core.progress import Stop, Summary
from abaw.core.system_errors import in_words
from abaw.datasets.crop_quality import FaceTables
from abaw.datasets.frames import BrokenFrame, FrameSource
from abaw.extract.feature import Feature
from abaw.extract.reader import FrameBatch, FrameOrigin
from abaw.store import FeatureStore
from abaw.store.writer import VideoWriter

WRITES_AHEAD = 64  # results that may wait for the writing thread


class Stopped(Exception):
    """Raised when the sink accepts no more data; once it is closed, `Summary.stopped` says why."""


class FeatureSink:
    """The writing thread and the writers of videos in progress. Calls return at once; errors go into the summary.

    Args:
        faces: tables with the quality of crops.
    """

    def __init__(
        self, store: FeatureStore, features: Sequence[Feature], summary: Summary, faces: FaceTables | None = None
    ) -> None:
        self._store, self._features, self._summary, self._faces = store, features, summary, faces
        self._writers: dict[str, list[VideoWriter]] = {}
        self._sources: dict[str, FrameSource] = {}  # of the writers
        self._thread = ThreadPoolExecutor(1)
        self._free = threading.BoundedSemaphore(WRITES_AHEAD)
        self._stop: Stop | None = None
        self._by_processor: dict[str, int] = {}

    def opened(self, sources: Iterable[FrameSource]) -> Iterable[FrameSource]:
        """Yield the sources, creating writers for each as it is reached."""
        for source in sources:
            self._do(source, self._open)
            yield source

    def write(self, batch: FrameBatch, results: list[NDArray[np.float32]]) -> None:
        """Write the results of a batch, one array per feature."""
        start = 0
        for source, rows in batch.parts:
            part = slice(start, start + len(rows))
            self._do(source, self._write, rows, [values[part] for values in results])
            start += len(rows)

    def note_decoder(self, source: FrameOrigin, n_by_processor: int) -> None:
        """Count frames that the processor decoded, although another decoder was asked for."""
        if n_by_processor:
            self._by_processor[source.name] = self._by_processor.get(source.name, 0) + n_by_processor

    def skip(self, source: FrameOrigin, broken: list[BrokenFrame]) -> None:
        """Record frames that could not be read."""
        if broken:
            # the rows of a clip that is cut off share one sentence
            self._summary.broken_frames += dict.fromkeys(frame.reason for frame in broken)
            self._do(source, self._skip, [frame.row for frame in broken])

    def close(self) -> None:
        """Wait for the thread. Videos that are incomplete by then stay out of the store."""
        self._thread.shutdown(wait=True)
        if self._by_processor:
            first, n_frames = next(iter(self._by_processor)), sum(self._by_processor.values())
            self._summary.warnings.append(
                f"The processor decoded {n_frames:,} frames of {len(self._by_processor):,} videos, such as {first}, which "
                "the decoder of the GPU does not decode alike; the store says so for each video."
            )
        if self._stop:
            self._summary.stopped = self._stop

    def _do(self, source: FrameOrigin, action: Callable, *arguments: object) -> None:
        if self._stop:
            raise Stopped
        self._free.acquire()
        self._thread.submit(self._guarded, source, action, *arguments)

    def _guarded(self, source: FrameOrigin, action: Callable, *arguments: object) -> None:
        name = source.name
        try:
            if name not in self._summary.failed and not self._stop:
                action(source, *arguments)
                self._finish_if_ready(source.name)
        except OSError as error:
            self._stop = Stop.of_disk(error, f"{name} into {self._store.path}")
            if not self._stop:
                self._fail(name, in_words(error))
        except LostClaimError as error:
            self._stop = Stop.of_claim(error)
        except Exception as error:  # an error in one video must not stop the others
            self._fail(name, in_words(error))
        finally:
            self._free.release()

    def _fail(self, name: str, reason: str) -> None:
        self._summary.failed[name] = reason
        self._writers.pop(name, None)
        self._sources.pop(name, None)

    def _open(self, source: FrameSource) -> None:
        attrs = {**source.clock().attrs, "source": source.digest()}
        self._sources[source.name] = source
        self._writers[source.name] = self._writers_of(source.name, source.clock().n_frames, source.rows, attrs)

    def _writers_of(self, video: str, n_frames: int, rows: NDArray, attrs: dict[str, Any]) -> list[VideoWriter]:
        """A writer of a video for each feature."""
        return [
            self._store.writer(
                feature.name,
                video,
                n_frames,
                rows,
                {
                    **attrs,
                    "precision": feature.backbone.precision,
                    **({"compiled": True} if feature.backbone.compiled else {}),
                },
            )
            for feature in self._features
        ]

    def _write(self, source: FrameOrigin, rows: NDArray, values: list[NDArray]) -> None:
        for writer, feature_values in zip(self._writers[source.name], values, strict=True):
            writer.write(rows, feature_values)

    def _skip(self, source: FrameOrigin, rows: list[int]) -> None:
        for writer in self._writers[source.name]:
            for row in rows:
                writer.skip(row)

    def _finish_if_ready(self, video: str) -> None:
        writers = self._writers.get(video, [])
        if writers and writers[0].ready:
            source, n_by_processor = self._sources.pop(video), self._by_processor.get(video, 0)
            content, n_frames = source.content(), source.clock().n_frames
            quality = self._faces.quality(video, n_frames) if self._faces is not None else None
            attrs: dict[str, Any] = {"content": content} if content else {}
            attrs |= {"by_processor": n_by_processor} if n_by_processor else {}
            for writer in writers:
                writer.finish(attrs=attrs, quality=quality)
            del self._writers[video]
            self._summary.done.append(video)
