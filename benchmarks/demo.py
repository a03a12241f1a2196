"""`abaw demo` from nothing to the scores of all three tasks.

python -m benchmarks.demo
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.measure import Report, Requirement

SIZE = "small"
LIMIT_S = 180
SCORES = {"va": ("mean CCC", 0.75), "expr": ("EXPR macro-F1", 0.5), "au": ("mean AU F1", 0.55)}
STAGE = re.compile(r"^(?P<stage>[^:\n]+): \d+ \w+ in (?P<seconds>[\d.]+) s ", re.MULTILINE)
METHOD = [
    f"One run of `abaw demo --size {SIZE}` in a process of its own, drawing, extraction, training, evaluation and "
    "PyTorch's start included.",
    "Scores are those of the validation split over all labelled frames, as the challenges score.",
]


def main() -> None:
    """Measure and print."""
    report = Report("demo", METHOD)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        begin = time.perf_counter()
        command = [sys.executable, "-m", "abaw", "demo", "--out", str(out), "--size", SIZE]
        progress = subprocess.run(command, check=True, capture_output=True, text=True).stderr
        seconds = time.perf_counter() - begin
        scores = [json.loads(path.read_text()) for path in sorted(out.glob("runs/*/scores-val.json"))]
    report.requirements.append(Requirement("abaw demo, start to end", seconds, LIMIT_S, "s", at_least=False))
    for found in scores:
        text, bound = SCORES[found["task"]]
        report.requirements.append(Requirement(f"{text} of the demo", found["official"]["score"], bound, ""))
        report.medians[f"{text}, frames with a crop"] = found["crop_only"]["score"]
    for stage in STAGE.finditer(progress):
        report.medians[f"{stage['stage']}, s"] = float(stage["seconds"])
    report.publish()


if __name__ == "__main__":
    main()
