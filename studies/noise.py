"""V-NAW's noise-aware weights and agreement of views, against wrong labels in runs.

Built in: in the training videos a fifth of the frames, in runs of 5 to 25, have the label of the expression next to
theirs on the circle of valence and arousal, as when an annotator mistakes a passage. Labels of `val` and `test` are right.
`hflip` is the same frame through nearly the same network, with noise of its own. Once more with right labels only.
V-NAW without further words has the defaults of `--loss v-naw`: no gradient flows through the noise weights, and the divergence
is Jensen and Shannon's, a mean over frames. The strong divergence is that of the authors' code, a sum, which weighs what it
weighs there: a batch here has 960 frames, so that its factor is .4 times 300 / 960. As published is both.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from abaw.core.tasks import EXPRESSIONS
from abaw.datasets.demo.latents import CIRCUMPLEX
from abaw.store import FeatureStore
from studies.study import TRANSFORMER, Idea, Scores, Variants, train_and_evaluate
from studies.world import Backbone, Person, draw_people, label, new_store, noisy, put

WRONG = 0.2
RUNS = (5, 26)  # frames of a run, the second number excluded
VIEWS = {"views": ["", "hflip"]}
PLAIN, FULL, PROBE = "cross-entropy", "V-NAW", "linear probe (logistic)"
THROUGH, STRONG, PUBLISHED = "V-NAW, gradient through the weights", "V-NAW, strong divergence", "V-NAW as published"
SUMMED = {"divergence": "logit-sum", "consistency": 0.4 * 300 / 960}
VARIANTS: Variants = {
    PLAIN: {},
    "cross-entropy, the view as further examples": VIEWS,
    FULL: {"loss": {"name": "v-naw"}, **VIEWS},
    THROUGH: {"loss": {"name": "v-naw", "through_weights": True}, **VIEWS},
    STRONG: {"loss": {"name": "v-naw", **SUMMED}, **VIEWS},
    PUBLISHED: {"loss": {"name": "v-naw", "through_weights": True, **SUMMED}, **VIEWS},
    "V-NAW without divergence": {"loss": {"name": "v-naw", "consistency": 0.0}, **VIEWS},
    "V-NAW without noise weights": {"loss": {"name": "v-naw", "plain": 1.0, "weighted": 0.0}, **VIEWS},
    PROBE: {"head": {"name": "logistic"}},
}
SETTINGS = {
    "a fifth of the labels wrong": (WRONG, tuple(VARIANTS)),
    "all labels right": (0.0, (PLAIN, FULL, PUBLISHED, PROBE)),
}


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed, with wrong and with right labels."""
    rng = np.random.default_rng([seed, 2])
    people = draw_people(rng)
    backbone = Backbone(rng, next(iter(people.values())).courses.shape[1])
    views = {"face": backbone, "face@hflip": backbone.mirrored(rng)}
    values = {
        (name, video): noisy(rng, network.see(person.courses, person.offset))
        for name, network in views.items()
        for video, person in people.items()
    }
    scores: Scores = {}
    for setting, (share, variants) in SETTINGS.items():
        place = folder / f"wrong-{share}"
        store = new_store(place / "store.zarr", dict.fromkeys(views, "vision"))
        for (name, video), seen in values.items():
            put(store, name, video, seen)
        write_labels(rng, store, people, share)
        scores[setting] = {}
        for variant in variants:
            options = {"task": "expr", "features": ["face"], "head": TRANSFORMER, **VARIANTS[variant]}
            scores[setting][variant] = train_and_evaluate(store, place, options, seed)["test"].official.score
    return scores


def write_labels(rng: np.random.Generator, store: FeatureStore, people: dict[str, Person], share: float) -> None:
    """Store labels, a share of those for training wrong."""
    for video, person in people.items():
        rows = person.expressions()
        label(store, "expr", video, person.split, mislabel(rng, rows, share) if person.split == "train" else rows)


def mislabel(rng: np.random.Generator, rows: NDArray, share: float, lengths: tuple[int, int] = RUNS) -> NDArray:
    """(frames, 1) labels of which a share, in runs, are those of the neighbouring expression."""
    places = np.array([CIRCUMPLEX[name] for name in EXPRESSIONS])
    distances = np.linalg.norm(places[:, None] - places, axis=-1)
    neighbours = (distances + np.diag(np.full(len(places), np.inf))).argmin(axis=1)
    wrong = np.zeros(len(rows), dtype=np.bool_)
    while wrong.sum() < share * len(rows):
        start, length = int(rng.integers(len(rows))), int(rng.integers(*lengths))
        wrong[start : start + length] = True
    return np.where(wrong[:, None], neighbours[rows], rows)


IDEA = Idea(
    name="noise",
    title="Noise-aware weights and views that agree (v-naw): expressions, macro F1",
    built_in=__doc__ or "",
    measure=measure,
    against={
        **dict.fromkeys(list(VARIANTS)[1:-1], (PLAIN,)),
        THROUGH: (FULL,),
        STRONG: (FULL,),
        PUBLISHED: (PLAIN, FULL),
    },
)
