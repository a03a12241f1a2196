"""Training on a GPU: as on the CPU, from a table in the GPU's memory, without a wait within the steps."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from abaw import pipeline
from abaw.core.tasks import get_task
from abaw.tests.support.tables import build_table
from abaw.tests.support.trainings import StopAfter
from abaw.train.checkpoint import StepsTaken
from abaw.train.data.on_device import place
from abaw.train.data.windows import WindowSampler
from abaw.train.loop import Trainer
from abaw.train.model import build_model
from abaw.train.new_run import load_tables
from abaw.train.runs import open_run

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
DEVICE = "cuda"
STILL = ("head.dropout=0", "head.mask_ratio=0")  # nothing is drawn on the device
# both processes of the first GPUs train one run
PAIR = """
import sys
from pathlib import Path
from abaw import pipeline
from abaw.train.config import make_config

store, runs, config = pipeline.FeatureStore.open(Path(sys.argv[1])), Path(sys.argv[2]), make_config(eval(sys.argv[3]))
pipeline.train_seeds([config], store, runs, "pair", device="cuda")
"""


def on_gpu(table):
    placed = place(table, torch.device(DEVICE))
    assert placed.on_device is not None
    return placed


@pytest.mark.parametrize("task", ["va", "expr", "au"])
@pytest.mark.parametrize("head", ["transformer", "linear", "gru", "tcn"])
def test_training_is_that_of_the_cpu(lab, linear_store, tmp_path, head, task):
    config = lab.config(task, "epochs=2", *(STILL if head == "transformer" else ("head.dropout=0",)), head=head)
    runs = [lab.start(linear_store, tmp_path, config, name) for name in ("host", "device")]
    host, device = (
        pipeline.train(run, linear_store, device=name) for run, name in zip(runs, ("cpu", DEVICE), strict=True)
    )
    host_losses, device_losses = ([row["loss"] for row in lab.metrics(run.folder)] for run in runs)
    # networks compute in bfloat16 on a GPU, whose numbers have 8 bits
    assert device_losses == pytest.approx(host_losses, rel=0.02, abs=0.01)
    assert device.best_score == pytest.approx(host.best_score, abs=0.05)


def test_windows_on_the_gpu_are_those_of_the_host():
    rng = np.random.default_rng(0)
    table = build_table(get_task("va"), (700, 300), {"f": rng.normal(size=(1000, 2, 8))})
    table = replace(table, values={"f": table.values["f"].astype(np.float16)})
    samplers = [WindowSampler(each, 60) for each in (table, on_gpu(table))]
    windows = samplers[0].epoch(13, (0, 1), speed=(0.5, 2))
    host, device = (sampler.batch(windows).to(torch.device(DEVICE)) for sampler in samplers)
    assert torch.equal(host.features["f"], device.features["f"])
    assert torch.equal(host.masks["f"], device.masks["f"])


@pytest.mark.parametrize("task", ["va", "expr", "au"])
@pytest.mark.parametrize("in_host_memory", [False, True])
def test_steps_wait_for_nothing(lab, linear_store, tmp_path, task, in_host_memory):
    device = torch.device(DEVICE)
    run = lab.start(linear_store, tmp_path, lab.config(task, "batch_size=2"))
    table, _ = load_tables(run.config, linear_store)
    model = build_model(run).to(device)
    trainer = Trainer(run.config, run.task, model, table if in_host_memory else on_gpu(table), device)
    taken = StepsTaken()

    def after_step():  # the first steps load kernels; after the last one the loss is read
        within = 3 <= len(taken.losses) < trainer.n_steps - 2
        torch.cuda.set_sync_debug_mode("error" if within else "default")

    try:
        trainer.run_steps(1, taken, after_step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(taken.losses) >= 7


@pytest.mark.parametrize(("n_epochs", "settings"), [(1, ()), (3, ()), (2, ("precision=fp16", "ema=0.9"))])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(lab, linear_store, tmp_path, n_epochs, settings):
    config = lab.config("va", *settings)
    whole, stopped = (lab.start(linear_store, tmp_path, config, name) for name in ("whole", "stopped"))
    pipeline.train(whole, linear_store, device=DEVICE)
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(stopped, linear_store, device=DEVICE, reporter=StopAfter(n_epochs))
    torch.manual_seed(123)
    pipeline.train(open_run(stopped.folder), linear_store, device=DEVICE)
    first, second = (load_file(run.folder / "last.safetensors") for run in (whole, stopped))
    assert any(name.startswith("scaler.") for name in first) == bool(settings)
    for name, values in first.items():  # sums on a GPU may change their order
        torch.testing.assert_close(second[name], values, rtol=1e-2, atol=1e-3, msg=name)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_two_gpus_train_what_one_trains(lab, linear_store, tmp_path, process_env):
    config = lab.config("va", "epochs=2", *STILL)
    script = tmp_path / "pair.py"
    script.write_text(PAIR)
    words = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script))
    options = (str(linear_store.path), str(tmp_path), repr(config.model_dump()))
    subprocess.run([sys.executable, *words, *options], env=process_env, check=True, timeout=300)
    alone = lab.start(linear_store, tmp_path, config, "alone")
    pipeline.train(alone, linear_store, device=DEVICE)
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("pair", "alone")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
