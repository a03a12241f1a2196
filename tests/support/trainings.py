"""Small trainings: configs, stores, and what runs leave behind."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from abaw import pipeline
from abaw.core.progress import Reporter, Silent
from abaw.store import FeatureStore
from abaw.tests.support.stores import new_store, put_feature
from abaw.train.checkpoint import load_tensors
from abaw.train.config import TrainConfig, make_config
from abaw.train.loop import TrainingResult
from abaw.train.new_run import start_run
from abaw.train.runs import Run


class Lab:
    """Small trainings on labels that are linear in their feature."""

    n_frames, width = 120, 16
    settings = (
        *("head.dim=16", "head.layers=1", "head.heads=2", "head.feedforward=32"),
        *("window=30", "batch_size=8", "lr=0.01", "epochs=5"),
    )

    def make_store(
        self, path: Path, tasks: Iterable[str] = ("va", "expr", "au"), fingerprint: str = "a" * 64
    ) -> FeatureStore:
        """Four training and two validation videos; `g` is `f` of another name, and `f@hflip` nearly `f`."""
        rng = np.random.default_rng(0)
        to_va, to_expr, to_au = (rng.normal(size=(self.width, n)) for n in (2, 8, 12))
        store = new_store(path, dict.fromkeys(("f", "g", "f@hflip"), (self.width,)), fingerprint=fingerprint)
        for i in range(6):
            x = rng.normal(size=(self.n_frames, self.width)).astype(np.float32)
            noise = np.random.default_rng(i).normal(0, 0.1, x.shape).astype(np.float32)
            for feature, values in (("f", x), ("g", x), ("f@hflip", x + noise)):
                put_feature(store, feature, f"v{i}", values, fps=30.0)
            labels = {
                "va": np.clip(x @ to_va / 8, -1, 1).astype(np.float32),
                "expr": (x @ to_expr).argmax(1)[:, None].astype(np.int8),
                "au": (x @ to_au > 0).astype(np.int8),
            }
            for task in tasks:
                store.write_labels(task, f"v{i}", "train" if i < 4 else "val", labels[task])
        return store

    def config(self, task: str = "va", *settings: str, head: str = "transformer") -> TrainConfig:
        """A small head on `f`, five epochs."""
        kept = [setting for setting in self.settings if head == "transformer" or not setting.startswith("head.")]
        return make_config({"task": task, "features": ("f",), "head": {"name": head}}, [*kept, *settings])

    def start(self, store: FeatureStore, runs: Path, config: TrainConfig | None = None, name: str | None = None) -> Run:
        """A new run's folder."""
        return start_run(config or self.config(), store, runs, name)

    def train(self, run: Run, store: FeatureStore, reporter: Reporter | None = None) -> TrainingResult:
        """Train a run on the CPU, from its last checkpoint."""
        with single_thread():
            return pipeline.train(run, store, device="cpu", reporter=reporter)

    def metrics(self, folder: Path) -> list[dict[str, float]]:
        """The lines of `metrics.jsonl`."""
        return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]

    def tensors(self, path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """Tensors and metadata of a checkpoint."""
        return load_tensors(path)

    def assert_same(self, folder: Path, wanted: Path) -> None:
        """Weights, optimizer, progress and metrics are equal to the last bit; only the clock may differ."""
        for name in ("best.safetensors", "last.safetensors"):
            (found, found_metadata), (expected, metadata) = self.tensors(folder / name), self.tensors(wanted / name)
            assert found_metadata == metadata, name
            assert found.keys() == expected.keys()
            assert [key for key in expected if not torch.equal(found[key], expected[key])] == []
        clock = {"seconds", "waiting_share"}
        found_rows, rows = (
            [{key: value for key, value in row.items() if key not in clock} for row in self.metrics(place)]
            for place in (folder, wanted)
        )
        assert found_rows == rows


class StopAfter(Silent):
    """A reporter that breaks a training off once some epochs are done."""

    def __init__(self, n_epochs: int) -> None:
        self.n_left = n_epochs

    def log(self, line: str) -> None:
        self.n_left -= 1
        if self.n_left == 0:
            raise KeyboardInterrupt


@contextmanager
def single_thread() -> Iterator[None]:
    """Networks this small wait for their threads much longer than they compute, most of all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
