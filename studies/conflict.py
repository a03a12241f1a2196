"""Absolute differences between features, against the features alone, for labels that are in their conflict.

Built in: clips of 75 frames. Words and face each show how pleasant things are, by networks of their own and with
noise, and neither says anything about the class by itself. The three classes, equally frequent, are how far the two
are apart: they agree, differ, or contradict each other. The words are there in one stretch of half the clip, the face
in nine tenths of it. Made smaller for time after a trial with seed 99; seeds 0 to 4 then ran once.
"""

from pathlib import Path

import numpy as np

from studies.bags import N_FRAMES, Shown, spoken, store_clips
from studies.study import Idea, Options, Scores, Variants, train_and_evaluate
from studies.world import N_HIDDEN, N_NUISANCES, OFFSET, Backbone, gaps, noisy

SPOKEN, FACELESS = 1 / 2, 0.1  # shares of the frames
# |a - b| of two values that are even in [-1, 1] is below the first in a third of the clips, and below the second in two
BOUNDS = (2 - 2 * np.sqrt(2 / 3), 2 - 2 * np.sqrt(1 / 3))
SETTING = "how far words and face are apart"
PLAIN: Options = {"name": "difference", "dim": 32, "hidden": 64, "modality_dropout": 0.0, "differences": "none"}
VARIANTS: Variants = {
    "side by side (the head without differences)": {"head": PLAIN},
    "each frame alone (mlp)": {"head": {"name": "mlp", "hidden": [128]}},
    "differences of frames": {"head": {**PLAIN, "differences": "frame"}},
    "differences of means": {"head": {**PLAIN, "differences": "window"}},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on clips drawn with a seed."""
    rng = np.random.default_rng([seed, 34])
    backbones = {name: Backbone(rng, 1 + N_NUISANCES) for name in ("text", "face")}

    def draw() -> tuple[int, Shown]:
        pleasant = rng.uniform(-1, 1, 2)
        shown = {}
        for (name, backbone), value in zip(backbones.items(), pleasant, strict=True):
            courses = np.tile([2 * value, *rng.normal(0, 0.5, N_NUISANCES)], (N_FRAMES, 1))
            values = noisy(rng, backbone.see(courses, rng.normal(0, OFFSET, N_HIDDEN)))
            shown[name] = (values, spoken(rng, SPOKEN) if name == "text" else gaps(rng, N_FRAMES, FACELESS))
        return int(np.searchsorted(BOUNDS, abs(pleasant[0] - pleasant[1]))), shown

    store = store_clips(folder / "store.zarr", {"text": "audio", "face": "vision"}, draw)
    scores = {}
    for variant, options in VARIANTS.items():
        values = {"task": "vgaf", "features": ["text", "face"], **options}
        scores[variant] = train_and_evaluate(store, folder, values, seed)["test"].official.score
    return {SETTING: scores}


IDEA = Idea(
    name="conflict",
    title="Absolute differences between features (difference): three classes of clips, accuracy",
    built_in=__doc__ or "",
    measure=measure,
    against={
        "differences of frames": ("side by side (the head without differences)", "each frame alone (mlp)"),
        "differences of means": ("side by side (the head without differences)", "each frame alone (mlp)"),
    },
)
