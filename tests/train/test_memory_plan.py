"""The forecast of memory against what a training takes, and what is said where it does not fit."""

import gc
from collections.abc import Iterable

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from abaw import pipeline
from abaw.core.errors import AbawError, UsageError
from abaw.train.finetune import memory_errors, memory_plan
from abaw.train.finetune.encoder_build import FirstWeights, build_first
from abaw.train.finetune.memory_errors import check_memory, explaining_memory
from abaw.train.finetune.memory_plan import plan_memory
from abaw.train.finetune.memory_trace import StorageRecorder, peak, trace
from abaw.train.finetune.pixel_table import IMAGES, SIZES

CPU = torch.device("cpu")
BACKBONE, SIDE = "timm/test_vit@64-mean", 64


def config(*settings: str):
    return pipeline.make_finetune_configs("va", [BACKBONE], {}, ["augment=none", *settings])[0]


def profiled_peak(settings: Iterable[str], n: int) -> int:
    """The most bytes that the allocator of the CPU had handed out in a step, by the profiler of torch."""
    model, _ = build_first(config(*settings), FirstWeights({}, untrained=True))
    model.train()
    gc.collect()  # else what earlier tests left is freed meanwhile
    batch = {IMAGES: torch.zeros(n, 1, SIDE, SIDE, 3, dtype=torch.uint8), SIZES: torch.full((n, 1, 2), SIDE)}
    masks = dict.fromkeys(batch, torch.ones(n, 1, dtype=torch.bool))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model(batch, masks).float().sum().backward()
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    used = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        used += event.nbytes()
        most = max(most, used)
    return most


def test_a_forecast_is_what_a_step_takes():
    uses = {}
    for settings in ((), ("checkpoint=true",), ("chunk=8",)):
        use = uses[settings] = plan_memory(config(*settings, "batch_size=40"), CPU, 100.0).asked
        waiting = 4 * 40 * 3 * SIDE**2  # bytes: three batches that are read ahead, and one more copy
        assert use.training - use.weights - use.states - waiting == pytest.approx(profiled_peak(settings, 40), rel=0.1)
    whole, again, _ = uses.values()  # activations that are computed again are not kept
    assert again.activations < 0.3 * whole.activations and again.training < 0.6 * whole.training
    assert (again.weights, again.states) == (whole.weights, whole.states) == (whole.weights, 2 * whole.gradients)


def test_levels_are_those_counted_by_hand():
    network = nn.Sequential(nn.Linear(50, 200), nn.ReLU(), nn.Linear(200, 10))

    def run(n: int) -> list[list[int]]:
        network.zero_grad()
        inputs = torch.zeros(n, 50)
        with StorageRecorder() as recorder:
            outputs = network(inputs)
            forward = recorder.take()
            outputs.sum().backward()
            return [forward, recorder.take()]

    forward, backward = trace(run)
    assert forward.levels(7)[-1] == 4 * 7 * (200 + 10)  # the output of the ReLU, and that of the network
    gradients = 4 * (50 * 200 + 200 + 200 * 10 + 10)
    assert (
        backward.levels(7)[-1] == gradients - 4 * 7 * 200
    )  # the output of the network is alive, that of the ReLU is not
    assert peak([forward.levels(7), backward.levels(7)]) >= 4 * 7 * (200 + 10) + gradients // 2


def test_options_that_fit_are_found():
    on_gpu, small = plan_memory(config(), None, 2.0), plan_memory(config(), CPU, 0.04)
    assert on_gpu.fits and not on_gpu.others and on_gpu.precision == "bfloat16"
    assert on_gpu.asked.activations < small.asked.activations < 2.2 * on_gpu.asked.activations
    assert not small.fits and small.remedy is not None and small.remedy.most <= small.room
    assert {words for use in small.others for words in use.settings} >= {
        "checkpoint=true",
        "batch_size=32",
        "accumulate=2",
    }


def test_a_batch_too_large_for_the_machine_is_refused_before_it_is_tried(monkeypatch):
    for module in (memory_errors, memory_plan):
        monkeypatch.setattr(module, "free_memory", lambda: 25_000_000)
    with pytest.raises(
        UsageError, match=r"64 images at a time do not fit.* takes about 0\.0\d GB\. Use --set checkpoint=true"
    ):
        check_memory(config(), CPU)
    check_memory(config("batch_size=2"), CPU)


def test_an_allocation_that_fails_names_what_to_set(monkeypatch):
    with pytest.raises(AbawError, match=r"is used up .*Close other programs"), explaining_memory("run", config(), CPU):
        torch.empty(1 << 50)
    monkeypatch.setattr(memory_plan, "free_memory", lambda: 40_000_000)
    remedy = "Continue with `abaw finetune --resume --run run --set checkpoint=true`"
    with pytest.raises(AbawError, match=remedy), explaining_memory("run", config(), CPU):
        torch.empty(1 << 50)
    with pytest.raises(RuntimeError, match="shape"), explaining_memory("run", config(), CPU):
        torch.zeros(2) @ torch.zeros(3, 4)
