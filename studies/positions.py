"""The order of the frames of a window, told by sines and cosines or not told at all (V-NAW, Situ-RUCAIM3).

Built in: nothing for or against it. Affect changes smoothly, so that the next frames know more than those far away. A
transformer without positions sees a set of frames. The encoder has a 1x1 convolution and post-norm layers, as in the two systems.
"""

from pathlib import Path

import numpy as np

from studies.study import ENCODER, TRANSFORMER, Idea, Scores, train_and_evaluate
from studies.world import draw_people, store_faces

HEADS = {"transformer": TRANSFORMER, "encoder": ENCODER}
TOLD, NOT_TOLD = "positions", "no positions (as published)"
PROBE = "linear probe (ridge)"


def measure(seed: int, folder: Path) -> Scores:
    """Scores of both heads with and without positions on people drawn with a seed."""
    rng = np.random.default_rng([seed, 9])
    store = store_faces(rng, folder / "store.zarr", draw_people(rng), "va")

    def score(head: dict) -> float:
        values = {"task": "va", "features": ["face"], "head": head}
        return train_and_evaluate(store, folder, values, seed)["test"].official.score

    probe = score({"name": "ridge"})
    return {
        setting: {TOLD: score(head), NOT_TOLD: score({**head, "positions": False}), PROBE: probe}
        for setting, head in HEADS.items()
    }


IDEA = Idea(
    name="positions",
    title="Positions of the frames (v-naw, situ-va): valence and arousal, mean CCC",
    built_in=__doc__ or "",
    measure=measure,
    against={NOT_TOLD: (TOLD,)},
)
