"""Running encoders over sound: sounds -> encoders -> store, on the rows of the video. Each video is written whole.

Several videos are processed at once: decoding and openSMILE release Python's lock most of the time and scale over
threads; encoders of torch, which use all cores or the GPU, take turns. Sounds are read, encoded and written piece by
piece, so that memory does not grow with their length.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from os import cpu_count
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from abaw.backbones.extractor import Backbone
from abaw.core.errors import DataError
from abaw.core.progress import OnFrames, Silent, Stop, Summary
from abaw.datasets.clips import spectrograms_of, why_silent
from abaw.datasets.frames import FrameSource
from abaw.extract.companion_source import CompanionSource
from abaw.extract.faces.followed_videos import FollowedFrames
from abaw.extract.feature import Feature
from abaw.extract.people_in_store import person_attrs
from abaw.extract.video_errors import record_error
from abaw.media.file_content import content_attrs
from abaw.media.frame_times import NS, Nanoseconds, RowMeans, rows_with_sound
from abaw.media.sound import Sound, load_sound
from abaw.media.tensors import read_spectrogram_tensor
from abaw.media.waveform import RATE_HZ
from abaw.store import FeatureStore
from abaw.store.writer import VideoWriter

MOST_WORKERS = 16


@dataclass(frozen=True)
class AudioSource(CompanionSource):
    """A video whose sound will be encoded.

    Attributes:
        frames: gives name, clock, and when each row is shown.
        sound: the file that holds the sound; None without one.
        digest: `sound_digest` of the video.
    """

    frames: FrameSource
    sound: Path | None
    digest: str


class _Cancelled(Exception):
    """Raised in worker threads when the run stops."""


class AudioRunner:
    """Runs audio encoders over the sound of videos and writes the features.

    Args:
        store: receives the features.
        features: to make; those of one backbone share its pass.
        on_frames: called with the number of frames of each finished video, for a progress bar; with 0 in between, as a
            sign of life.
        n_workers: videos processed at once; 0 takes the number of processors.
    """

    def __init__(
        self,
        store: FeatureStore,
        features: Sequence[Feature],
        on_frames: OnFrames | None = None,
        n_workers: int = 0,
    ) -> None:
        self._store, self._on_frames = store, on_frames or Silent().advance
        self._groups: dict[int, tuple[Backbone, list[Feature]]] = {}
        for feature in features:
            self._groups.setdefault(id(feature.backbone), (feature.backbone, []))[1].append(feature)
        self._n_workers = n_workers or min(MOST_WORKERS, cpu_count() or 2)
        self._device = threading.Lock()
        self._cancelled = threading.Event()
        self._summary = Summary()

    def run(self, sources: Iterable[AudioSource]) -> Summary:
        """Encode the sounds of all sources. An error in a video ends only that video; see `Summary`."""
        workers = ThreadPoolExecutor(self._n_workers)
        try:
            self._run(sources, workers)
        except KeyboardInterrupt:
            self._cancelled.set()
            self._summary.stopped = Stop.interrupted()
        finally:
            workers.shutdown(wait=True, cancel_futures=True)
        return self._summary

    def _run(self, sources: Iterable[AudioSource], workers: ThreadPoolExecutor) -> None:
        running: dict[Future[tuple[int, list[str]]], AudioSource] = {}
        for source in sources:
            running[workers.submit(self._encode_video, source)] = source
            if len(running) > 2 * self._n_workers:
                self._collect(running)
            if self._cancelled.is_set():
                break
        while running:
            self._collect(running)

    def _collect(self, running: dict[Future[tuple[int, list[str]]], AudioSource]) -> None:
        """Wait for at least one video to finish, and record the outcome of all that did."""
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            source = running.pop(future)
            name = source.video
            try:
                n_rows, notes = future.result()
            except _Cancelled:
                continue
            except Exception as error:
                record_error(self._summary, name, error, self._store.path, "sound")
                if self._summary.stopped:
                    self._cancelled.set()
            else:
                if name not in self._summary.done:
                    self._summary.done.append(name)
                self._summary.n_frames += n_rows
                self._summary.warnings += [f"{name}: {note}" for note in notes]
                if n_rows == 0:
                    self._summary.without_sound.append(name)
            self._on_frames(source.n_frames)

    def _encode_video(self, source: AudioSource) -> tuple[int, list[str]]:
        """Write all features of a video; returns the number of its rows with sound, and notes on the sound."""
        self._check()
        if source.sound is not None and source.sound == spectrograms_of(source.frames):
            return self._copy_spectrograms(source, source.sound), []
        if source.sound is None and (reason := why_silent(source.frames)):
            raise DataError(reason)
        times = source.frames.times()
        sound = load_sound(source.sound) if source.sound is not None else None
        start_ns = 0
        first = last = 0
        if sound is not None and len(sound.waveform):
            if source.sound == source.frames.file:  # a separate sound file starts with the first picture
                start_ns = round((sound.start_s - times.start_s) * NS)
            end_ns = start_ns + round(len(sound.waveform) * (NS / RATE_HZ))
            first, last = rows_with_sound(times.edges_ns, start_ns, end_ns)
        rows = np.arange(first, last)
        writers = self._writers(source, rows)
        if sound is not None and len(rows):
            edges = times.edges_ns[first : last + 1] - start_ns
            for backbone, features in self._groups.values():
                self._encode(backbone, [(feature, writers[feature.name]) for feature in features], sound, edges, first)
        for writer in writers.values():
            writer.finish(allow_empty=True)
        return len(rows), sound.notes if sound is not None else []

    def _copy_spectrograms(self, source: AudioSource, tensor: Path) -> int:
        """Write the spectrograms of a tensor as they are; returns the number of rows."""
        values = read_spectrogram_tensor(tensor)
        n_frames = source.frames.clock().n_frames
        if len(values) != n_frames:
            raise DataError(
                f"{tensor} holds {len(values)} spectrograms, but its name says {n_frames}. Correct the name."
            )
        for feature in self._features():
            if feature.spec.shape != values.shape[1:]:
                raise DataError(
                    f"{tensor} holds spectrograms of shape {values.shape[1:]} and there is no sound; {feature.name} has the "
                    f"shape {tuple(feature.spec.shape)}. Import other spectrograms with `abaw store import`."
                )
        rows = np.arange(n_frames)
        for writer in self._writers(source, rows).values():
            writer.write(rows, values)
            writer.finish()
        return n_frames

    def _features(self) -> Iterator[Feature]:
        for _, features in self._groups.values():
            yield from features

    def _writers(self, source: AudioSource, rows: NDArray) -> dict[str, VideoWriter]:
        """A writer of a video for each feature, by its name."""
        clock = source.frames.clock()
        # reads the whole file: once for all features
        attrs = {**clock.attrs, "source": source.digest, **content_attrs(source.sound), "precision": "float32"}
        if isinstance(source.frames, FollowedFrames):
            attrs |= person_attrs(source.frames)
        return {
            feature.name: self._store.writer(feature.name, source.frames.name, clock.n_frames, rows, attrs)
            for feature in self._features()
        }

    def _encode(
        self,
        backbone: Backbone,
        writers: list[tuple[Feature, VideoWriter]],
        sound: Sound,
        edges_ns: Nanoseconds,
        first: int,
    ) -> None:
        """One pass of an encoder over a sound.

        Args:
            edges_ns: borders of the rows from row `first` on, counted from the first sample of the sound.
        """
        means = {spec.output: RowMeans(edges_ns) for spec in backbone.specs}

        def write(output: str, start: int, values: NDArray) -> None:
            for feature, writer in writers:
                if feature.spec.output == output and len(values):
                    writer.write(first + start + np.arange(len(values)), values)

        def take(centres_ns: Nanoseconds, outputs: dict[str, NDArray]) -> None:
            self._check()
            self._on_frames(0)
            for output, values in outputs.items():
                start = means[output].n_done
                write(output, start, means[output].add(centres_ns, values))

        encoder = backbone.encoder
        with self._device if encoder.on_device else nullcontext(), torch.inference_mode():
            encoder.encode(sound.waveform, edges_ns[:-1] + np.diff(edges_ns) // 2, take)
        for output, rows in means.items():
            start = rows.n_done
            write(output, start, rows.rest())

    def _check(self) -> None:
        if self._cancelled.is_set():
            raise _Cancelled
