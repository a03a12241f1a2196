"""Fine-tuning against heads on features of the same network, which stays as it is.

Built in: the network has learnt valence and arousal from 80 other people, and expressions are new to it. An image of
each expression of 60 people is there to train on; test are 30 others. Images have nothing to do with each other, so that heads
over time could add nothing. The best head is that of each seed with the highest score on the test people themselves,
which favours frozen features. Cached is the way of the winners of 2026: features of the fine-tuned network, extracted with
its `encoder.safetensors`, and a head on them.
"""

from pathlib import Path

import numpy as np

from abaw.evaluate.trained import TrainedRun
from abaw.pipeline import train_seeds
from abaw.store import FeatureStore
from abaw.train.config import make_config
from studies.faces import write_stills
from studies.study import BUDGET, Idea, Options, Scores
from studies.tiny_vit import BACKBONE, extracted, fine_tune, pretrained, score

PEOPLE = {"train": 60, "val": 12, "test": 30}
HEADS: dict[str, Options] = {
    "frozen, linear probe (logistic)": {"name": "logistic"},
    "frozen, linear": {"name": "linear"},
    "frozen, mlp": {"name": "mlp", "hidden": [128]},
    "frozen, mlp of two layers": {"name": "mlp", "hidden": [256, 128]},
}
BEST, TUNED, CACHED = "frozen, the best head of each seed", "fine-tuned", "fine-tuned, cached, linear probe (logistic)"


def measure(seed: int, folder: Path) -> Scores:
    """Scores of every variant on people drawn with a seed."""
    data, test = write_stills(np.random.default_rng([seed, 21]), folder, PEOPLE)
    weights = pretrained(seed, folder)
    before = (extracted(data, folder / "before.zarr", weights), extracted(test, folder / "before-test.zarr", weights))
    scores = {name: _on_features(*before, head, seed, folder) for name, head in HEADS.items()}
    scores[BEST] = max(scores.values())
    run = fine_tune(data, folder / "runs", {"task": "expr"}, seed, weights)
    scores[TUNED] = score(run, test)
    encoder = run.folder / "encoder.safetensors"
    after = (extracted(data, folder / "after.zarr", encoder), extracted(test, folder / "after-test.zarr", encoder))
    scores[CACHED] = _on_features(*after, {"name": "logistic"}, seed, folder)
    return {"people it has not seen": scores}


def _on_features(store: FeatureStore, test: FeatureStore, head: Options, seed: int, folder: Path) -> float:
    frames = {"window": 1, "stride": 1, "batch_size": 64}
    values = {**BUDGET, **frames, "task": "expr", "features": [BACKBONE], "head": head, "seed": seed}
    [(run, _)] = train_seeds([make_config(values)], store, folder / "runs", device="cpu")
    return TrainedRun.open(run, "cpu").evaluate(test, "val").official.score


IDEA = Idea(
    name="finetune-frozen",
    title="Fine-tuning against frozen features: expressions, macro F1",
    built_in=__doc__ or "",
    measure=measure,
    against={TUNED: (BEST,), CACHED: (BEST, TUNED)},
)
