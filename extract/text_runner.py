"""Running text encoders over the transcripts of videos, on the rows of the videos. Each video is written whole."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from abaw.backbones.extractor import Backbone
from abaw.backbones.text.transcript_encoder import EncodedRows
from abaw.core.errors import some_of
from abaw.core.progress import OnFrames, Silent, Stop, Summary
from abaw.datasets.frames import FrameSource
from abaw.datasets.transcripts import TranscriptSource
from abaw.extract.companion_source import CompanionSource
from abaw.extract.faces.followed_videos import FollowedFrames
from abaw.extract.feature import Feature
from abaw.extract.people_in_store import person_attrs
from abaw.extract.video_errors import record_error
from abaw.store import FeatureStore

MOST_NAMED = 3
PIECE_ROWS = 4096  # written at once: a full transcript has the same vector in all rows


@dataclass(frozen=True)
class TextSource(CompanionSource):
    """A video whose transcript will be encoded.

    Attributes:
        frames: gives name, clock, and when each row is shown.
        transcript: None without one.
        digest: `transcript_digest` of the video.
    """

    frames: FrameSource
    transcript: TranscriptSource | None
    digest: str


class TextRunner:
    """Runs text encoders over the transcripts of videos and writes the features; a video has few texts, so one at a time.

    Args:
        store: receives the features.
        features: to make; those of one backbone share its pass.
        on_frames: called with the number of frames of each finished video, for a progress bar.
    """

    def __init__(self, store: FeatureStore, features: Sequence[Feature], on_frames: OnFrames | None = None) -> None:
        self._store, self._on_frames = store, on_frames or Silent().advance
        self._groups: dict[int, tuple[Backbone, list[Feature]]] = {}
        for feature in features:
            self._groups.setdefault(id(feature.backbone), (feature.backbone, []))[1].append(feature)
        self._summary = Summary()
        self._notes: dict[str, list[str]] = {}  # videos by sentence

    def run(self, sources: Iterable[TextSource]) -> Summary:
        """Encode the transcripts of all sources. An error in a video ends only that video; see `Summary`."""
        try:
            for source in sources:
                self._run_video(source)
                if self._summary.stopped:
                    break
        except KeyboardInterrupt:
            self._summary.stopped = Stop.interrupted()
        self._summary.warnings += [
            f"{some_of(list(dict.fromkeys(videos)), MOST_NAMED)}: {note}" for note, videos in self._notes.items()
        ]
        return self._summary

    def _run_video(self, source: TextSource) -> None:
        summary, video = self._summary, source.video
        try:
            n_rows = self._encode_video(source)
        except Exception as error:
            record_error(summary, video, error, self._store.path, "transcript")
        else:
            summary.done += [video] if video not in summary.done else []
            summary.n_frames += n_rows
            summary.without_text += [video] if not n_rows and video not in summary.without_text else []
        self._on_frames(source.n_frames)

    def _encode_video(self, source: TextSource) -> int:
        """Write all features of a video; returns the largest number of rows that one of them has."""
        edges_ns = source.frames.times().edges_ns
        content = source.transcript.content() if source.transcript is not None else ""
        transcript = source.transcript.read() if source.transcript is not None else None
        notes = dict.fromkeys(transcript.notes if transcript is not None else ())
        encoded: list[tuple[Feature, NDArray[np.int64], NDArray[np.float32]]] = []
        for backbone, features in self._groups.values():
            self._on_frames(0)
            of_rows = _nothing(backbone)
            if transcript is not None and transcript.chunks:
                of_rows = backbone.transcript_encoder.encode(transcript, edges_ns)
            notes |= dict.fromkeys(of_rows.notes)
            encoded += [(feature, of_rows.rows, of_rows.values[feature.spec.output]) for feature in features]
        for feature, rows, values in encoded:
            self._write(source, feature, content, rows, values)
        for note in notes:
            self._notes.setdefault(note, []).append(source.video)
        return max(len(rows) for _, rows, _ in encoded)

    def _write(
        self, source: TextSource, feature: Feature, content: str, rows: NDArray[np.int64], values: NDArray[np.float32]
    ) -> None:
        clock = source.frames.clock()
        attrs = {**clock.attrs, "source": source.digest, "precision": "float32"}
        if source.transcript is not None:
            attrs |= {"transcript": source.transcript.file.name} | ({"content": content} if content else {})
        if isinstance(source.frames, FollowedFrames):
            attrs |= person_attrs(source.frames)
        writer = self._store.writer(feature.name, source.frames.name, clock.n_frames, rows, attrs)
        for start in range(0, len(rows), PIECE_ROWS):
            writer.write(rows[start : start + PIECE_ROWS], values[start : start + PIECE_ROWS])
        writer.finish(allow_empty=True)


def _nothing(backbone: Backbone) -> EncodedRows:
    """No rows, for a video in which nothing is said."""
    values = {spec.output: np.zeros((0, *spec.shape), dtype=np.float32) for spec in backbone.specs}
    return EncodedRows(np.zeros(0, dtype=np.int64), values)
