"""V-NAW's loss with the network in training, against the same on its frozen features, where labels are wrong in runs.

Built in: videos of 64 frames, 10 a second, of 12 people, in which each of eight expressions comes once. In training a fifth
of the frames, in runs of 2 to 8, have the label of the expression next to theirs on the circle of valence and arousal. Labels of
`val` and `test`, other people, are right. The second view is the mirrored frame. The network has learnt valence and arousal
from 80 other people. V-NAW has the defaults of `--loss v-naw`. All have the same transformer over 32 frames and as many epochs.
"""

from pathlib import Path

import numpy as np

from abaw.evaluate.trained import TrainedRun
from abaw.pipeline import train_seeds
from abaw.train.config import make_config
from studies.faces import Person, draw_videos, write_faces
from studies.noise import mislabel
from studies.study import BUDGET, TRANSFORMER, Idea, Options, Scores
from studies.tiny_vit import BACKBONE, extracted, fine_tune, pretrained, score

PEOPLE = {"train": 12, "val": 8, "test": 16}
N_FRAMES, N_SEGMENTS, RATE_HZ = 64, 8, 10.0
EPOCHS = 10
WRONG, RUNS = 0.2, (2, 9)
WINDOWS: Options = {"task": "expr", "head": TRANSFORMER, "window": 32, "stride": 32, "batch_size": 4, "epochs": EPOCHS}
V_NAW: Options = {"views": ["", "hflip"], "loss": {"name": "v-naw"}}
JOINT, JOINT_V_NAW = "pixels, cross-entropy", "pixels, V-NAW"
FROZEN, FROZEN_V_NAW = "frozen, cross-entropy", "frozen, V-NAW"


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    rng = np.random.default_rng([seed, 25])
    people = {split: draw_videos(rng, n, N_FRAMES, N_SEGMENTS, RATE_HZ, split) for split, n in PEOPLE.items()}
    people["train"] = [
        Person(one.name, one.pictures, {"expr": mislabel(rng, one.labels["expr"], WRONG, RUNS)})
        for one in people["train"]
    ]
    data, test = folder / "data", folder / "test"
    for split, place in (("train", data), ("val", data), ("test", test)):
        write_faces(place, "val" if place == test else split, people[split])
    weights = pretrained(seed, folder)
    store = extracted(data, folder / "data.zarr", weights, ("hflip",))
    test_store = extracted(test, folder / "test.zarr", weights)
    scores = {}
    for variant, loss in ((FROZEN, {}), (FROZEN_V_NAW, V_NAW)):
        config = make_config({**BUDGET, **WINDOWS, **loss, "features": [BACKBONE], "seed": seed})
        [(run, _)] = train_seeds([config], store, folder / "runs", device="cpu")
        scores[variant] = TrainedRun.open(run, "cpu").evaluate(test_store, "val").official.score
    for variant, loss in ((JOINT, {}), (JOINT_V_NAW, V_NAW)):
        scores[variant] = score(fine_tune(data, folder / "runs", {**WINDOWS, **loss}, seed, weights), test)
    return {"a fifth of the labels wrong": scores}


IDEA = Idea(
    name="finetune-clips",
    title="Noise-aware weights and mirrored clips on pixels (v-naw): expressions, macro F1",
    built_in=__doc__ or "",
    measure=measure,
    against={FROZEN_V_NAW: (FROZEN,), JOINT: (FROZEN,), JOINT_V_NAW: (JOINT, FROZEN_V_NAW)},
)
