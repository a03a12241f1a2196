"""Scoring a million frames both ways, and bootstrap intervals over 300 videos.

python -m benchmarks.scoring
"""

import numpy as np

from abaw.core.tasks import TASKS, Task
from abaw.evaluate.evaluation import evaluate_predictions
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.bootstrap import N_DRAWS, difference, interval
from benchmarks.measure import Report, Requirement, in_turns

N_FRAMES = 1_000_000
N_VIDEOS, FRAMES_OF_VIDEO = 300, 10_000
N_SCORED = 100  # videos of as many frames
ROUNDS = 3
TIMED = ("va", "expr", "au")
METHOD = [
    f"Random outputs and labels, {N_FRAMES:,} frames of {N_SCORED} videos, 5 % without a crop: va, expr and au scored one "
    "after another, over all frames and over those with a crop.",
    f"Intervals: {N_DRAWS:,} draws of {N_VIDEOS} videos of {FRAMES_OF_VIDEO:,} frames; reading the frames is included.",
]


def main() -> None:
    """Measure and print."""
    report = Report("scoring", METHOD)
    scored = {name: random_predictions(TASKS[name], N_SCORED, N_FRAMES // N_SCORED, 0) for name in TIMED}

    def score_all() -> None:
        for name, predictions in scored.items():
            evaluate_predictions(TASKS[name], predictions)

    seconds = in_turns({"score": score_all}, ROUNDS)["score"].median_s
    text = f"scoring {N_FRAMES:,} frames of {', '.join(TIMED)} both ways"
    report.requirements.append(Requirement(text, seconds, 5, "s", at_least=False))
    scored.clear()
    for name in TIMED:
        task = TASKS[name]
        one, other = (random_predictions(task, N_VIDEOS, FRAMES_OF_VIDEO, seed) for seed in (0, 1))
        timings = in_turns(
            {
                "interval": lambda task=task, one=one: interval(task, one),
                "difference": lambda task=task, one=one, other=other: difference(task, one, other),
            },
            ROUNDS,
        )
        text = f"{N_DRAWS:,} draws of {N_VIDEOS} videos, {name}"
        report.requirements.append(Requirement(text, timings["interval"].median_s, 10, "s", at_least=False))
        report.medians[f"difference of two runs, {name}, s"] = timings["difference"].median_s
    report.publish()


def random_predictions(task: Task, n_videos: int, n_frames: int, seed: int) -> dict[str, VideoPrediction]:
    """Outputs of a normal distribution, which differ with the seed, and labels that do not."""
    of_outputs, of_labels = np.random.default_rng(seed), np.random.default_rng(100)
    found = {}
    for number in range(n_videos):
        shape = (n_frames, len(task.columns))
        if task.kind == "regression":
            labels = of_labels.uniform(task.low, task.high, shape)
        else:
            labels = of_labels.integers(int(task.low), int(task.high) + 1, shape)
        outputs = of_outputs.standard_normal((n_frames, len(task.outputs)), dtype=np.float32)
        present = of_labels.random(n_frames) >= 0.05
        found[f"video-{number}"] = VideoPrediction(outputs, labels.astype(np.float32), present, 30.0)
    return found


if __name__ == "__main__":
    main()
