"""What many hours of video need, computed from the measurements of `benchmarks.cluster`.

python -m benchmarks.cluster > cluster.json
python -m benchmarks.scale cluster.json --hours 1000 1000000 --frames-per-s 1000 5000
"""

import argparse
import json
import math
from pathlib import Path

from abaw.extract.cluster.jobs import FRAMES_PER_JOB
from benchmarks.cluster import HOUR_FRAMES, N_START, VIDEO_FRAMES

WIDTH = 768
LABEL_BYTES, MASK_BYTES = 8 + 2, 3  # of a frame in a table of valence and arousal
PLACE_BYTES = 4 + 8  # of a frame whose values stay in the store: its file, and where it begins there
PACK_BYTES = 1e9  # of a shard of packed videos
GB = 1e9
READ_BYTES_PER_S = 1e9  # assumed of a disk or a network


class Figures:
    """The medians of a report of `benchmarks.cluster`."""

    def __init__(self, report: Path) -> None:
        self._medians: dict[str, float] = json.loads(report.read_text(encoding="utf-8"))["medians"]

    def get(self, name: str) -> float:
        """A figure by its full name.

        Raises:
            SystemExit: it was not measured.
        """
        if name not in self._medians:
            raise SystemExit(f"The report has no figure {name!r}. Run all of `python -m benchmarks.cluster`.")
        return self._medians[name]

    def sum(self, begin: str, end: str) -> float:
        """Sum of the figures whose names begin and end with these texts.

        Raises:
            SystemExit: no such figure was measured.
        """
        values = [value for name, value in self._medians.items() if name.startswith(begin) and name.endswith(end)]
        if not values:
            raise SystemExit(f"The report has no figure {begin!r}. Run all of `python -m benchmarks.cluster`.")
        return math.fsum(values)

    def seconds_of(self, part: str) -> float:
        """Seconds of a part of the start, for `N_START` videos."""
        return self.sum(f"part: {part}", ", s")


def rows(figures: Figures, hours: float, rates: list[float]) -> list[tuple[str, str]]:
    """What `hours` of video need, as names and figures with units; `rates` are frames/s of one GPU."""
    n_frames = hours * HOUR_FRAMES
    n_videos = n_frames / VIDEO_FRAMES
    per_crop_s = figures.seconds_of("listing all crops once") / figures.get("crops of a video of the start") / N_START
    store_bytes = figures.get(f"an hour in short videos of {VIDEO_FRAMES:,} frames, MB") * 1e6 * hours
    written = figures.sum("S3, extract, without labels", "by video") - figures.get(
        "S3, extract, without labels, ms by video"
    )
    table_bytes = n_frames * (WIDTH * 2 + LABEL_BYTES + MASK_BYTES)
    kept_bytes = n_frames * (LABEL_BYTES + MASK_BYTES + PLACE_BYTES)
    table = [
        ("frames, at 30 a second", _number(n_frames)),
        (f"videos of {VIDEO_FRAMES:,} frames", _number(n_videos)),
    ]
    table += [(f"GPU hours at {rate:g} frames/s", _number(n_frames / rate / 3600)) for rate in rates]
    table += [
        ("crops, as JPEG files", _number(n_frames)),
        ("listing all crops once from a cache", _time(n_frames * per_crop_s)),
        (f"store of one feature, {WIDTH} x float16", _bytes(store_bytes)),
        ("files of one feature", _number(n_videos * figures.get(f"a video of {VIDEO_FRAMES:,} frames, files"))),
        ("the same, packed", _number(store_bytes / PACK_BYTES)),
        ("requests to write videos one by one to S3", _number(n_videos * written)),
        (
            "cost of all videos in addition to their frames",
            _time(n_videos * figures.get("cost of a video, one worker, ms") / 1000),
        ),
        (
            "listing the complete videos, local disk",
            _time(n_videos * figures.get("list of complete videos, 1,000 of them, ms") / 1e6),
        ),
        (
            "listing the complete videos, S3",
            _time(n_videos * figures.get("S3, list of complete videos, ms by video") / 1000),
        ),
        (f"jobs of {FRAMES_PER_JOB:,} frames", _number(n_frames / FRAMES_PER_JOB)),
        ("table of one feature for training", _bytes(table_bytes)),
        ("memory of training where the table stays in the store", _bytes(kept_bytes)),
        (f"reading all of it once at {READ_BYTES_PER_S / GB:g} GB/s", _time(store_bytes / READ_BYTES_PER_S)),
    ]
    return table


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _bytes(value: float) -> str:
    return f"{value / GB:,.0f} GB" if value < 1000 * GB else f"{value / GB / 1000:,.1f} TB"


def _time(seconds: float) -> str:
    for unit, length_s in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:,.1f} {unit}"
    return f"{seconds:.1f} s"


def main() -> None:
    """Print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("report", type=Path, help="JSON that `python -m benchmarks.cluster` printed")
    parser.add_argument("--hours", type=float, nargs="+", default=[1000, 1_000_000])
    parser.add_argument("--frames-per-s", type=float, nargs="+", default=[1000, 5000], help="of one GPU, all backbones")
    arguments = parser.parse_args()
    figures = Figures(arguments.report)
    columns = [rows(figures, hours, arguments.frames_per_s) for hours in arguments.hours]
    print("| | " + " | ".join(f"{hours:,.0f} hours" for hours in arguments.hours) + " |")
    print("| --- |" + " ---: |" * len(columns))
    for cells in zip(*columns, strict=True):
        print(f"| {cells[0][0]} | " + " | ".join(cell for _, cell in cells) + " |")


if __name__ == "__main__":
    main()
