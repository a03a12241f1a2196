"""Peak memory of extraction: does it grow with the length or the number of videos?

python -m benchmarks.memory
"""

import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from abaw.extract.request import BATCH_SIZES
from benchmarks.crops import draw_crops, make_video
from benchmarks.measure import Report, Requirement, peak_kib
from benchmarks.nothing import extract, make_feature
from benchmarks.nothing_family import register_nothing

N_LINKED = 100  # crops that all frames are hard links of
SHORT, LONG = 2000, 40_000  # frames of one video
FEW, MANY, N_FRAMES = 10, 200, 200  # videos, and frames of each
LIMIT_MB = 100
ROUNDS = 3
METHOD = [
    f"The Runner with a network that does nothing (112-pixel input, 768 values out, batches of {BATCH_SIZES['cpu']}), "
    "each case in a process of its own; frames are hard links of a few JPEG files.",
    f"Peak resident memory as the kernel counts it (VmHWM), PyTorch included; median of {ROUNDS} processes each.",
]


def main() -> None:
    """Measure and print; with arguments, be one of the processes that are measured."""
    if len(sys.argv) > 1:
        _extract(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
        return
    report = Report("memory", METHOD)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        draw_crops(root)
        cases = [(1, SHORT), (1, LONG), (FEW, N_FRAMES), (MANY, N_FRAMES)]
        rounds = [[_peak_mb(root, *case) for case in cases] for _ in range(ROUNDS)]
    peaks_mb = [statistics.median(peaks) for peaks in zip(*rounds, strict=True)]
    lengths, counts = peaks_mb[:2], peaks_mb[2:]
    for text, (low, high) in (
        (f"one video of {LONG:,} frames over one of {SHORT:,}", lengths),
        (f"{MANY} videos over {FEW}", counts),
    ):
        report.requirements.append(Requirement(f"peak memory of {text}", high - low, LIMIT_MB, "MB", at_least=False))
    for text, peak_mb in (
        (f"one video of {SHORT:,} frames", lengths[0]),
        (f"one video of {LONG:,} frames", lengths[1]),
        (f"{FEW} videos of {N_FRAMES} frames", counts[0]),
        (f"{MANY} videos of {N_FRAMES} frames", counts[1]),
    ):
        report.medians[f"{text}, MB"] = peak_mb
    report.publish()


def _peak_mb(root: Path, n_videos: int, n_frames: int) -> float:
    command = [sys.executable, "-m", "benchmarks.memory", str(root), str(n_videos), str(n_frames)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def _extract(root: Path, n_videos: int, n_frames: int) -> None:
    crops = sorted((root / "drawn" / "cropped_aligned").glob("*/*.jpg"))[:N_LINKED]
    place = root / f"{n_videos}-{n_frames}"
    sources = (make_video(place, f"video-{number}", crops, n_frames, link=True) for number in range(n_videos))
    extract(make_feature(register_nothing(112)), list(sources), place / "store.zarr", BATCH_SIZES["cpu"])
    print(peak_kib() / 1000)
    shutil.rmtree(place)


if __name__ == "__main__":
    main()
