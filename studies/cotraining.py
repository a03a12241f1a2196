"""Co-training of two heads on two views (masked CoTEX), against wrong labels of single images.

Built in: half of the training images have a wrong label, any of the other five alike; they are few and the heads wide,
so that a head can learn wrong labels by heart. The two views of an image are
its feature with strong noise, drawn independently, as two masks would; `val` and `test` have right labels and are seen through
the feature with little noise, as an image without a mask.
"""

from pathlib import Path

import numpy as np

from abaw.core.tasks import EXPRESSIONS, LSD_CLASSES
from abaw.datasets.demo.latents import compose_latents
from abaw.store import FeatureStore
from studies.study import Idea, Options, Scores, Variants, train_and_evaluate
from studies.world import N_HIDDEN, N_NUISANCES, OFFSET, Backbone, label, new_store, noisy, put, shown_by

N_IMAGES = {"train": 1000, "val": 500, "test": 2000}
WRONG = 0.5
LITTLE, MUCH = 0.5, 1.5  # noise of the feature as it is, and of its views
VIEWS = {"views": ["mask.0", "mask.1"]}
GENTLE = {"name": "cotex", "consistency": 10.0}
COTEX = {"loss": {"name": "cotex"}, **VIEWS}
OPTIONS: Options = {
    "task": "lsd",
    "features": ["face"],
    "head": {"name": "mlp", "hidden": [512], "dropout": 0.0},
    "epochs": 40,
    "patience": 40,
    "batch_size": 128,
    "lr": 1e-3,
}
VARIANTS: Variants = {
    "one head, views as further examples": VIEWS,
    "one head, views have to agree": COTEX,
    "two heads, no divergence": {"co_train": True, "loss": {"name": "cotex", "consistency": 0.0}, **VIEWS},
    "two heads, co-trained (cotex)": {"co_train": True, **COTEX},
    "two heads, co-trained, a tenth of the published factor": {"co_train": True, **VIEWS, "loss": GENTLE},
    "one head, without views": {},
    "linear probe (logistic), without views": {"head": {"name": "logistic"}},
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on images drawn with a seed, with wrong and with right labels."""
    scores: Scores = {}
    for setting, share in (("half of the labels wrong", WRONG), ("all labels right", 0.0)):
        place = folder / f"wrong-{share}"
        store = make_store(np.random.default_rng([seed, 3]), place / "store.zarr", share)
        scores[setting] = {
            variant: train_and_evaluate(store, place, {**OPTIONS, **options}, seed)["test"].official.score
            for variant, options in VARIANTS.items()
        }
    return scores


def make_store(rng: np.random.Generator, path: Path, share: float) -> FeatureStore:
    """Images of faces nobody of which occurs twice, one list of images for each split."""
    store = new_store(path, dict.fromkeys(("face", "face@mask.0", "face@mask.1"), "vision"))
    backbone = Backbone(rng, 23 + N_NUISANCES)
    shown = np.array([EXPRESSIONS.index(name) for name in LSD_CLASSES])
    for split, count in N_IMAGES.items():
        classes = rng.integers(len(LSD_CLASSES), size=count)
        variation = rng.standard_normal((count, 14))
        strength = rng.uniform(0.5, 1.0, count)
        latents = compose_latents(np.eye(len(EXPRESSIONS))[shown[classes]], strength, variation, np.zeros(count))
        courses = np.column_stack([shown_by(latents), 0.5 * rng.standard_normal((count, N_NUISANCES))])
        signal = backbone.see(courses, rng.normal(0, OFFSET, (count, N_HIDDEN)))
        put(store, "face", split, noisy(rng, signal, LITTLE))
        put(store, "face@mask.0", split, noisy(rng, signal, MUCH))
        put(store, "face@mask.1", split, noisy(rng, signal, MUCH))
        is_wrong = (split == "train") & (rng.random(count) < share)
        other = (classes + rng.integers(1, len(LSD_CLASSES), count)) % len(LSD_CLASSES)
        label(store, "lsd", split, split, np.where(is_wrong, other, classes)[:, None])
    return store


IDEA = Idea(
    name="cotraining",
    title="Two heads trained to agree (masked-cotex): six expressions of single images, macro F1",
    built_in=__doc__ or "",
    measure=measure,
    against=dict.fromkeys(list(VARIANTS)[1:-2], ("one head, views as further examples",)),
)
