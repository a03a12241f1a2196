"""Samples whose inputs are made when a batch asks for them, through the real loop."""

import math
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

from abaw.core.doubles import Doubles
from abaw.core.tasks import get_task
from abaw.train.data.samples import Samples, counted_labels
from abaw.train.data.statistics import feature_statistics
from abaw.train.data.table import load_table, select_labels
from abaw.train.fit_probes import fit_probe
from abaw.train.loop import fit
from abaw.train.model import build_model

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")
LOST = 7  # every so many frames have no feature


@dataclass(frozen=True)
class MadeSamples:
    """Videos whose features are put together when a batch asks for them."""

    values: list[np.ndarray]
    task: object
    videos: tuple[str, ...]
    n_frames: int
    labels: np.ndarray
    doubles: Doubles | None
    asked: list[int] = field(default_factory=list)
    n_readers: int = 1
    rows_per_batch: int = 256
    shares: None = None
    frame_labels: None = None
    weights: None = None

    @property
    def starts(self) -> np.ndarray:
        return np.arange(len(self.videos) + 1) * self.n_frames

    @property
    def valid(self) -> np.ndarray:
        return self.task.valid(self.labels)

    @property
    def synthetic(self) -> np.ndarray:
        return np.zeros(len(self.videos), dtype=bool)

    def present(self) -> np.ndarray:
        return np.arange(len(self.labels)) % self.n_frames % LOST > 0

    def inputs(self, rows, inside):
        assert rows.min() >= 0
        self.asked.append(len(rows))
        values = np.full((*rows.shape, 16), np.nan, dtype=np.float32)
        for number, features in enumerate(self.values):
            is_own = rows // self.n_frames == number
            values[is_own] = features[rows[is_own] % self.n_frames]
        mask = inside & self.present()[rows]
        values[~mask] = np.nan  # a table has other values there
        return {"f": torch.from_numpy(values)}, {"f": torch.from_numpy(mask)}


@pytest.fixture(scope="module")
def holed_store(lab, tmp_path_factory):
    """The store of `lab` whose feature lacks some frames."""
    store = lab.make_store(tmp_path_factory.mktemp("holed") / "whole.zarr")
    holed = type(store).create(tmp_path_factory.mktemp("holed") / "store.zarr")
    holed.add_feature("f", {"shape": [lab.width], "weights": "none"}, None, "a" * 64)
    rows = np.arange(lab.n_frames)
    kept = rows[rows % LOST > 0]
    for video in store.videos("f"):
        writer = holed.writer("f", video, lab.n_frames, kept, {"fps": 30.0, "source": "test"})
        writer.write(kept, store.read("f", video).values[kept])
        writer.finish()
    for task in ("va", "expr"):
        for video, labels in store.labels(task).items():
            holed.write_labels(task, video, labels.split, labels.rows)
    return holed


def both(store, task_name, n_frames):
    """A table of the training videos, and samples made of the same store."""
    task = get_task(task_name)
    labels = select_labels(store, task, "train")
    doubles = Doubles(np.array([3, 130]), np.full((2, len(task.columns)), task.high, dtype=np.float32))
    table = load_table(store, task, labels, ["f"])
    object.__setattr__(table, "doubles", doubles)
    rows = np.concatenate([video.rows for video in labels.values()]).astype(np.float32)
    values = [store.read("f", video).values for video in labels]
    return table, MadeSamples(values, task, tuple(labels), n_frames, rows, doubles)


@pytest.mark.parametrize(
    ("task", "head", "settings"),
    [
        ("va", "transformer", ("speed=0.5,1.5",)),
        ("expr", "tcn", ("head.dim=8", "balance=class", "loss.weights=inverse")),
    ],
)
def test_samples_made_on_the_fly_train_to_the_weights_of_a_table(lab, holed_store, tmp_path, task, head, settings):
    config = lab.config(task, *settings, "epochs=2", "window=50", head=head)
    table, made = both(holed_store, task, lab.n_frames)
    folders = []
    for name, samples in (("table", table), ("made", made)):
        run = lab.start(holed_store, tmp_path, config, name)
        model = build_model(run)
        model.set_statistics(*feature_statistics(holed_store, ["f"], list(samples.videos)))

        def validate(trained, on_outputs):
            return {"score": math.fsum(float(value.abs().mean()) for value in trained.state_dict().values())}

        fit(config, get_task(task), model, samples, validate, run.folder, CPU)
        folders.append(run.folder)
    assert len(made.asked) >= 2 * 4 * lab.n_frames / config.step / config.batch_size
    lab.assert_same(folders[1], folders[0])


def test_probes_are_solved_on_samples_made_on_the_fly(lab, holed_store, tmp_path):
    config = lab.config("va", head="ridge")
    weights = []
    for number, samples in enumerate(both(holed_store, "va", lab.n_frames)):
        model = build_model(lab.start(holed_store, tmp_path, config, f"run{number}"))
        model.set_statistics(*feature_statistics(holed_store, ["f"], list(samples.videos)))
        fit_probe(config.head, samples.task, model, samples, 0)
        weights.append(model.heads[0].output.weight)
    assert torch.equal(*weights)
    assert weights[0].any()


def test_labels_count_where_they_are_annotated_and_the_row_has_an_input(lab, holed_store):
    _, made = both(holed_store, "expr", lab.n_frames)
    made.labels[5] = made.doubles.labels[1] = -1
    samples: Samples = made
    rows, labels, counted = counted_labels(samples)
    assert rows[-2:].tolist() == [3, 130]
    assert labels[-2:].tolist() == [[7], [-1]]
    is_lost = rows % lab.n_frames % LOST == 0
    is_annotated = labels[:, 0] != -1
    assert np.flatnonzero(~is_annotated).tolist() == [5, len(labels) - 1]
    assert counted[:, 0].tolist() == (is_annotated & ~is_lost).tolist()
