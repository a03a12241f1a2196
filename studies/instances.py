"""Attention and a soft maximum over the frames of a clip, against their mean, where few frames show the class.

Built in: clips of 75 frames in three classes. One stretch of 5 frames shows the class, the others nothing of it; all
frames carry noise, and every clip an offset and slow courses of what is not affect. "After labels of frames": the hidden
layers are trained first on 60 other clips, whose frames say whether they show one of the classes. "With labels of frames":
60 of the 160 training clips say which 5 frames show their class, and these train it together with the clips
(`frame_labels`). Made harder after a trial with seed 99, in which all variants scored too high to tell them apart; seeds
0 to 4 then ran once.
"""

from pathlib import Path

import numpy as np

from abaw.datasets.demo.latents import smooth_noise
from abaw.store import FeatureStore
from studies.bags import N_CLASSES, N_FRAMES, store_clips
from studies.study import Idea, Options, Scores, Variants, train, train_and_evaluate
from studies.world import N_HIDDEN, N_NUISANCES, NUISANCE_S, OFFSET, RATE_HZ, Backbone, label, noisy, put

N_SHOWN = 5  # frames
N_LABELLED = {"train": 60, "val": 20}  # clips with labels of frames
SETTING = "5 of 75 frames show the class"
MEAN = "mean of the frames (mlp)"
HIDDEN = [64]
MIL: Options = {"name": "mil", "hidden": HIDDEN, "attention": 32}
VARIANTS: Variants = {
    MEAN: {"head": {"name": "mlp", "hidden": HIDDEN}},
    "attention": {"head": MIL},
    "log-sum-exp": {"head": {**MIL, "pool": "log-sum-exp"}},
}
AFTER_FRAMES = "attention, after labels of frames"
FRAMES = "shown"  # labels of frames of the clips themselves
WITH_FRAMES = {f"{name}, with labels of frames": name for name in ("attention", "log-sum-exp")}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on clips drawn with a seed."""
    rng = np.random.default_rng([seed, 35])
    backbone = Backbone(rng, N_CLASSES + N_NUISANCES)

    def draw_face() -> tuple[int, np.ndarray, np.ndarray]:
        kind, start = int(rng.integers(N_CLASSES)), int(rng.integers(N_FRAMES - N_SHOWN + 1))
        shows = np.zeros(N_FRAMES, bool)
        shows[start : start + N_SHOWN] = True
        courses = np.zeros((N_FRAMES, N_CLASSES + N_NUISANCES))
        courses[shows, kind] = 1.5
        courses[:, N_CLASSES:] = 0.5 * smooth_noise(rng, N_FRAMES, NUISANCE_S * RATE_HZ, N_NUISANCES)
        return kind, noisy(rng, backbone.see(courses, rng.normal(0, OFFSET, N_HIDDEN))), shows

    drawn: list[np.ndarray] = []

    def draw() -> tuple[int, dict[str, tuple[np.ndarray, np.ndarray]]]:
        kind, values, shows = draw_face()
        drawn.append(np.where(shows, kind, -1)[:, None])
        return kind, {"face": (values, np.ones(N_FRAMES, bool))}

    store = store_clips(folder / "store.zarr", {"face": "vision"}, draw)
    for number in range(N_LABELLED["train"]):  # the training clips were drawn first
        label(store, FRAMES, f"train-{number:03d}", "train", drawn[number])
    for split, count in N_LABELLED.items():
        for number in range(count):
            kind, values, shows = draw_face()
            put(store, "face", f"frames-{split}-{number}", values)
            label(store, "expr", f"frames-{split}-{number}", split, np.where(shows, 1 + kind, 0)[:, None])
    return {SETTING: _scores(store, folder, seed)}


def _scores(store: FeatureStore, folder: Path, seed: int) -> dict[str, float]:
    common: Options = {"task": "vgaf", "features": ["face"]}
    scores = {}
    for variant, options in VARIANTS.items():
        found = train_and_evaluate(store, folder, {**common, **options}, seed)
        scores[variant] = found["test"].official.score
    for variant, plain in WITH_FRAMES.items():
        found = train_and_evaluate(store, folder, {**common, **VARIANTS[plain], "frame_labels": FRAMES}, seed)
        scores[variant] = found["test"].official.score
    of_frames = train(store, folder, {**common, "task": "expr", "head": MIL}, seed)
    found = train_and_evaluate(store, folder, {**common, **VARIANTS["attention"]}, seed, init=of_frames)
    return {**scores, AFTER_FRAMES: found["test"].official.score}


IDEA = Idea(
    name="instances",
    title="Attention and log-sum-exp over frames (mil): three classes of clips, accuracy",
    built_in=__doc__ or "",
    measure=measure,
    against={
        "attention": (MEAN,),
        "log-sum-exp": (MEAN,),
        **{variant: (plain,) for variant, plain in WITH_FRAMES.items()},
        AFTER_FRAMES: ("attention",),
    },
)
