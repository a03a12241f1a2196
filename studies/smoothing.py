"""Smoothing of predictions over time, after heads that see each frame alone and after one that sees a window.

Built in: valence and arousal change smoothly (fades of 0.22 s between expressions, own variation over 0.5 s, 30 frames a
second), and every frame of the features carries noise of its own. Widths are frames of the window; the standard deviation of
`gaussian` is a quarter of its width.
"""

from pathlib import Path

import numpy as np

from abaw.core.tasks import VA
from abaw.evaluate.evaluation import Evaluation
from abaw.evaluate.postprocessing.smoothing import Kind, smooth
from abaw.evaluate.scores.metrics import score
from studies.study import TRANSFORMER, Idea, Scores, train_and_evaluate
from studies.world import draw_people, store_faces

HEADS = {
    "linear probe (ridge)": {"name": "ridge"},
    "each frame alone (mlp)": {"name": "mlp", "hidden": [128]},
    "transformer": TRANSFORMER,
}
WIDTHS = (5, 15, 31, 61, 101)
FILTERS: dict[str, tuple[Kind, int]] = {
    "none": ("box", 1),
    **{f"box {width}": ("box", width) for width in WIDTHS},
    **{f"gaussian {width}": ("gaussian", width) for width in WIDTHS},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every filter behind every head on people drawn with a seed."""
    rng = np.random.default_rng([seed, 5])
    people = draw_people(rng)
    store = store_faces(rng, folder / "store.zarr", people, "va")
    scores: Scores = {}
    for setting, head in HEADS.items():
        values = {"task": "va", "features": ["face"], "head": head}
        found = train_and_evaluate(store, folder, values, seed)["test"]
        scores[setting] = {name: smoothed_score(found, kind, width) for name, (kind, width) in FILTERS.items()}
    return scores


def smoothed_score(found: Evaluation, kind: Kind, width: int) -> float:
    """The score of an evaluation's predictions after smoothing."""
    videos = found.predictions.values()
    outputs = np.concatenate([smooth(video.outputs, video.present, kind, width) for video in videos])
    return score(VA, outputs, np.concatenate([video.labels for video in videos])).score


IDEA = Idea(
    name="smoothing",
    title="Smoothing of predictions: valence and arousal, mean CCC",
    built_in=__doc__ or "",
    measure=measure,
    against={name: ("none",) for name in FILTERS if name != "none"},
)
