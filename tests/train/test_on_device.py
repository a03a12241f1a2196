"""Tables whose features are on a device, on the CPU: the same batches, trainings and predictions to the last bit."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from abaw.core.tasks import get_task
from abaw.evaluate import inference
from abaw.evaluate.inference import predict
from abaw.tests.support.tables import build_table
from abaw.train import train_runs
from abaw.train.checkpoint import StepsTaken
from abaw.train.config import make_config
from abaw.train.data import on_device
from abaw.train.data.on_device import DeviceInputs, place
from abaw.train.data.table import Table
from abaw.train.data.windows import WindowSampler
from abaw.train.loop import Trainer
from abaw.train.model import Model

pytestmark = pytest.mark.usefixtures("one_thread")
CPU, GPU = torch.device("cpu"), torch.device("cuda")


def holed_table(task="va", n_rows=300):
    """Three videos with a float16 and a float32 feature, each missing in places."""
    rng, task = np.random.default_rng(3), get_task(task)
    values = {"face": rng.normal(size=(n_rows, 6)), "sound": rng.normal(size=(n_rows, 2, 3)) * 1e6}
    masks = {name: rng.random(n_rows) < 0.8 for name in values}
    columns = len(task.columns)
    labels = {
        "regression": rng.uniform(-1, 1, (n_rows, columns)),
        "classes": rng.integers(0, len(task.outputs), (n_rows, columns)),
        "binary": rng.random((n_rows, columns)) < 0.3,
    }[task.kind].astype(np.float32)
    labels[rng.random(n_rows) < 0.1] = task.invalid
    table = build_table(task, (n_rows - 130, 110, 20), values, masks, labels)
    return replace(table, values={"face": table.values["face"].astype(np.float16), "sound": table.values["sound"]})


def moved(table):
    return replace(table, values={}, on_device=DeviceInputs.copy(table, CPU))


def test_windows_are_what_numpy_takes(monkeypatch):
    monkeypatch.setattr(on_device, "BLOCK_BYTES", 100)  # several blocks, of an odd number of rows
    table = holed_table()
    sampler = WindowSampler(moved(table), 40)
    windows = sampler.epoch(7, (0, 1), speed=(0.5, 2.0))
    windows = np.concatenate([windows, [[0, 0, 1]]])  # of a process that has no share of the last batch
    rows, inside = sampler.rows_of(windows)
    assert not inside.all()
    batch = sampler.batch(windows)
    for name, values in table.values.items():
        assert batch.features[name].numpy().dtype == values.dtype
        np.testing.assert_array_equal(batch.features[name].numpy(), values[rows])
        np.testing.assert_array_equal(batch.masks[name].numpy(), table.masks[name][rows] & inside)
    assert batch.to(CPU).features["face"].dtype == torch.float32
    counted = table.valid[rows] & (table.masks["face"] | table.masks["sound"])[rows][..., None] & inside[..., None]
    np.testing.assert_array_equal(batch.valid.numpy(), counted)


def test_training_from_a_device_is_the_same_training(lab, linear_store, tmp_path, monkeypatch):
    config = lab.config("va", "epochs=2", "speed=.8,1.25")
    runs = [lab.start(linear_store, tmp_path, config, name) for name in ("host", "device")]
    lab.train(runs[0], linear_store)
    placed = []
    monkeypatch.setattr(train_runs, "place", lambda table, device: placed.append(device) or moved(table))
    lab.train(runs[1], linear_store)
    assert placed == [CPU, CPU]  # training and validation videos
    lab.assert_same(runs[1].folder, runs[0].folder)


class Steps(torch.nn.Module):
    """Gives each frame its place in the window, and the mean of the values there."""

    def forward(self, features, masks):
        values = features["face"].mean(-1)
        return torch.stack([torch.arange(values.shape[1]).expand_as(values), values], dim=-1)


@pytest.mark.parametrize("n_ahead", [1, 2, 1000])
def test_predictions_do_not_depend_on_how_many_batches_wait(monkeypatch, n_ahead):
    monkeypatch.setattr(Table, "rows_per_batch", 90)
    monkeypatch.setattr(inference, "BATCHES_AHEAD", n_ahead)
    everywhere = np.ones(100, dtype=bool)
    values = np.random.default_rng(0).normal(size=(100, 6)).astype(np.float32)
    table = build_table(get_task("va"), (75, 25), {"face": values}, {"face": everywhere})
    predictions = predict(Steps(), moved(table), 30, CPU)
    # windows of 30 begin at 0, 15, 30 and 45 of the first video; the second is shorter than a window
    places = np.zeros((75, 4)) * np.nan
    for number, begin in enumerate((0, 15, 30, 45)):
        places[begin : begin + 30, number] = range(30)
    expected = np.concatenate([np.nanmean(places, axis=1), np.arange(25)])
    found = np.concatenate([predictions[video].outputs for video in table.videos])
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(found[:, 1], values.mean(axis=1), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("share_free", "is_copied"), [(1.0, True), (0.26, True), (0.24, False)])
def test_a_table_is_on_a_gpu_only_if_that_leaves_room_for_the_model(monkeypatch, share_free, is_copied):
    table = holed_table()
    n_bytes = 300 * (6 * 2 + 6 * 4 + 2)  # values and masks
    total = 1000 * n_bytes
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (share_free * total, total))
    monkeypatch.setattr(DeviceInputs, "copy", lambda table, device: ("copy on", device))
    placed = place(table, GPU)
    assert (placed.on_device == ("copy on", GPU)) is is_copied
    assert (placed is table) is not is_copied
    assert place(table, CPU) is table


def test_a_gpu_whose_memory_is_taken_meanwhile_gets_batches(monkeypatch):
    def take(table, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    table = holed_table()
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**40, 2**40))
    monkeypatch.setattr(DeviceInputs, "copy", take)
    assert place(table, GPU) is table


class ValuesRead(TorchDispatchMode):
    """Notes operations whose result the host needs, which on a GPU wait for all work before them."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique")

    def __init__(self, allowed):
        super().__init__()
        self.allowed, self.names = allowed, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name.startswith("index") and any(
            index is not None and index.dtype == torch.bool
            for index in (args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ())
        )
        if by_mask or (name.startswith(self.WAITING) and not any(args[0] is tensor for tensor in self.allowed())):
            self.names.append(name)
        return func(*args, **(kwargs or {}))


def values_read(task, settings=()):
    """What the host reads in a step of a training on a table that is on a device."""
    table = holed_table(task)
    config = make_config({"task": task, "features": ("face", "sound")}, ("window=50", "batch_size=4", *settings))
    trainer = Trainer(config, table.task, Model(config, table.task, {"face": (6,), "sound": (2, 3)}), moved(table), CPU)
    trainer.run_epoch(1)  # the first step makes the optimizer's state
    # the optimizer counts its steps in host memory
    mode = ValuesRead(lambda: [state["step"] for state in trainer.optimizer.state.values()])
    within = []
    with mode:
        trainer.run_steps(2, StepsTaken(), lambda: within.append(list(mode.names)))
    assert len(within) > 1
    assert len(mode.names) > len(within[-1])  # the loss of the epoch is read
    return within[-1]


SMALL = ("head.dim=8", "head.layers=1", "head.heads=2", "head.feedforward=8")


@pytest.mark.parametrize("task", ["va", "expr", "au"])
def test_a_step_of_the_default_head_reads_nothing_back(task):
    assert values_read(task, SMALL) == []


def test_a_step_that_selects_rows_by_a_mask_is_noticed():
    """The published normalisation of this head counts the frames that have a feature."""
    assert "index" in values_read("expr", ("head.name=encoder", "head.convs=8", "head.output_hidden=4", "head.heads=2"))
