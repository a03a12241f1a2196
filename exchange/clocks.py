"""Frame rates and numbers of frames of imported videos."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from abaw.datasets.clips import CLIP_S
from abaw.datasets.dataset import Clock
from abaw.datasets.videos import DEFAULT_FPS, probe_timing, video_file_of
from abaw.errors import DataError
from abaw.exchange.rows import Rows


@dataclass
class Clocks:
    """Frame rates and numbers of frames: from the video file, else from the source, else as given or assumed."""

    files: dict[str, Path]
    fps: float | None
    assumed: Counter[str] = field(default_factory=Counter)  # sentence -> videos

    def stamp(self, video: str) -> str:
        """What a video's clock is from, as part of its digest."""
        file = video_file_of(video, self.files)
        return f"{file.stat().st_size} {file.stat().st_mtime_ns}" if file else f"{self.fps}"

    def clock(self, video: str, rows: Rows) -> Clock:
        """Frame rate and number of frames of a video; rows that are spread over a clip are frames of their own.

        The number is guessed where the source says so of it and no video file tells another.
        """
        file, reason = video_file_of(video, self.files), "no video file"
        if file is not None:
            try:
                timing = probe_timing(file)
                if rows.is_sampled:
                    return Clock(timing.fps * rows.n_frames / timing.n_frames, rows.n_frames, is_sampled=True)
                return Clock(timing.fps, max(timing.n_frames, rows.n_frames))
            except DataError as error:
                reason = str(error)
        told = rows.fps or self.fps
        if told:
            return Clock(told, rows.n_frames, is_guessed=rows.is_guessed, is_sampled=rows.is_sampled)
        self.assumed[f"{reason}: " + (f"clips of {CLIP_S:g} s" if rows.is_sampled else f"{DEFAULT_FPS:g} fps")] += 1
        fps = rows.n_frames / CLIP_S if rows.is_sampled else DEFAULT_FPS
        return Clock(fps, rows.n_frames, is_guessed=rows.is_guessed, is_sampled=rows.is_sampled)

    def warnings(self) -> list[str]:
        """A sentence for each thing that was assumed, with the number of videos."""
        return [f"{n} videos, {what} assumed; say it with --fps" for what, n in self.assumed.items()]
