"""Frame rates and numbers of frames of imported videos."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from abaw.core.clock import Clock
from abaw.core.errors import DataError
from abaw.core.tasks import TASKS
from abaw.datasets.clips import CLIP_S
from abaw.datasets.dataset import Labels
from abaw.datasets.video_files import People, video_file_of
from abaw.exchange.source_rows import Rows
from abaw.exchange.source_stamps import sample_stamp
from abaw.media.probe import DEFAULT_FPS, Timing, probe_timing


@dataclass(frozen=True)
class Length:
    """The number of frames of a video, and a clause that explains how it is known."""

    n: int
    reason: str


@dataclass
class Clocks:
    """Frame rates and numbers of frames: from the video file, else from the source, else as given or assumed.

    Attributes:
        files: video files by name.
        fps: frames a second of videos whose rate is unknown.
        labels: of the data folder.
        people: of the data folder, with the files of their videos.
    """

    files: dict[str, Path]
    fps: float | None
    labels: Sequence[Labels] = ()
    people: People | None = None
    assumed: Counter[str] = field(default_factory=Counter)  # sentence -> videos
    _timings: dict[Path, Timing] = field(default_factory=dict)
    _lengths: dict[str, Length | None] = field(default_factory=dict)

    def stamp(self, video: str) -> str:
        """Identifies the source of a video's clock, as part of the video's digest."""
        file = self.file_of(video)
        return f"{file.stat().st_size} {file.stat().st_mtime_ns}" if file else f"{self.fps}"

    def content(self, video: str) -> str:
        """Like `SourceVideo.content` of the video file; empty without one."""
        file = self.file_of(video)
        return sample_stamp([file]) if file else ""

    def clock(self, video: str, rows: Rows) -> Clock:
        """Frame rate and number of frames of a video; rows that are spread over a clip count as its frames.

        The number is marked as guessed if the source marks it so and there is no readable video file.
        """
        file, reason = self.file_of(video), "no video file"
        if file is not None:
            try:
                timing = self._timing(file)
                if rows.is_sampled:
                    return Clock(timing.fps * rows.n_frames / timing.n_frames, rows.n_frames, is_sampled=True)
                return Clock(timing.fps, max(timing.n_frames, rows.n_frames))
            except DataError as error:
                reason = str(error)
        fps = rows.fps or self.fps
        if not fps:
            fps = rows.n_frames / CLIP_S if rows.is_sampled else DEFAULT_FPS
            assumption = f"clips of {CLIP_S:g} s" if rows.is_sampled else f"{DEFAULT_FPS:g} fps"
            self.assumed[f"{reason}: {assumption}"] += 1
        return Clock(fps, rows.n_frames, is_guessed=rows.is_guessed, is_sampled=rows.is_sampled)

    def length(self, video: str) -> Length | None:
        """The length of a video by its file, else by its labels; None if both are missing."""
        if video not in self._lengths:
            self._lengths[video] = self._length_of_file(video) or self._length_of_labels(video)
        return self._lengths[video]

    def _length_of_file(self, video: str) -> Length | None:
        file = self.file_of(video)
        if file is None:
            return None
        try:
            n_frames = self._timing(file).n_frames
        except DataError:  # reported when its frame rate is needed
            return None
        return Length(n_frames, f"{file.name} has {n_frames} frames")

    def _length_of_labels(self, video: str) -> Length | None:
        for label in self.labels:
            if label.video == video and TASKS[label.task].labels is not None:
                try:
                    n_rows = len(label.read())
                except DataError:  # reported when the labels are written
                    continue
                return Length(n_rows, f"its {label.task} labels have {n_rows} rows")
        return None

    def file_of(self, video: str) -> Path | None:
        """The video file that a video's clock comes from; None if it has no file."""
        return video_file_of(video, self.files, self.people) if self.people else self.files.get(video)

    def _timing(self, file: Path) -> Timing:
        if file not in self._timings:
            self._timings[file] = probe_timing(file)
        return self._timings[file]

    def warnings(self) -> list[str]:
        """A sentence for each thing that was assumed, with the number of videos."""
        return [f"{n} videos, {assumption} assumed; set it with --fps" for assumption, n in self.assumed.items()]
