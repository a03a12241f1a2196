"""How fast the demo dataset is drawn, on one core.

python -m benchmarks.demo_render
"""

import itertools
import tempfile
from pathlib import Path

from abaw.datasets.demo import n_frames_of, write_demo
from benchmarks.measure import Report, Requirement, in_turns, one_core

SIZE = "tiny"
ROUNDS = 5
METHOD = [
    f"`write_demo` of size {SIZE} ({n_frames_of(SIZE)} frames) with one worker, bound to one core: "
    "faces, crops, labels, sound and films, start to end.",
]


def main() -> None:
    """Measure and print."""
    report = Report("demo_render", METHOD)
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as folder, one_core():
        draw = {"draw": lambda: write_demo(Path(folder) / str(next(numbers)), SIZE, workers=1)}
        timing = in_turns(draw, ROUNDS)["draw"]
    n_frames = n_frames_of(SIZE)
    report.requirements.append(
        Requirement("demo frames drawn on one core", n_frames / timing.median_s, 300, "frames/s")
    )
    report.medians["frames by second of processor time"] = n_frames / timing.median_cpu_s
    report.medians["frames/s in the fastest round"] = n_frames / min(timing.wall_s)
    report.publish()


if __name__ == "__main__":
    main()
