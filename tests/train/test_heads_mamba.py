"""The Mamba head: the scan against a loop in numpy, a layer against recorded outputs, and how gaps are read."""

import importlib.util
import json
from functools import cache
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from abaw.tests.support.paths import DATA
from abaw.train.heads import create_head
from abaw.train.heads.mamba import MambaBlock, MambaHead
from abaw.train.heads.selective_scan import selective_scan
from abaw.train.sequence_options import MambaConfig

REFERENCE = DATA / "reference"
N_CHANNELS, N_STATES = 5, 3


@cache
def seeded() -> ModuleType:
    spec = importlib.util.spec_from_file_location("seeded", REFERENCE / "seeded.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw_scan(length: int = 7, device: str = "cpu") -> tuple[Tensor, ...]:
    """Inputs, steps, rates, what is written and read, and the skip of two windows."""
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(2, length, N_CHANNELS, generator=draw)
    steps = torch.rand(2, length, N_CHANNELS, generator=draw) + 0.1
    rates = -torch.rand(N_CHANNELS, N_STATES, generator=draw) - 0.1
    write, read = (torch.randn(2, length, N_STATES, generator=draw) for _ in range(2))
    return tuple(value.to(device) for value in (inputs, steps, rates, write, read, torch.randn(N_CHANNELS)))


def scan_by_loops(
    inputs: Tensor, steps: Tensor, rates: Tensor, write: Tensor, read: Tensor, skip: Tensor
) -> np.ndarray:
    """The equations of Gu and Dao (2023), one number at a time."""
    x, dt, a, b, c, d = (value.double().numpy() for value in (inputs, steps, rates, write, read, skip))
    outputs = np.zeros(x.shape)
    for window in range(x.shape[0]):
        for channel in range(x.shape[2]):
            state = np.zeros(N_STATES)
            for time in range(x.shape[1]):
                step, value = dt[window, time, channel], x[window, time, channel]
                for i in range(N_STATES):
                    state[i] = np.exp(step * a[channel, i]) * state[i] + step * b[window, time, i] * value
                    outputs[window, time, channel] += c[window, time, i] * state[i]
                outputs[window, time, channel] += d[channel] * value
    return outputs


@pytest.mark.parametrize("length", [1, 7])
def test_scan_by_loops(length: int) -> None:
    given = draw_scan(length)
    np.testing.assert_allclose(selective_scan(*given), scan_by_loops(*given), atol=1e-5)


def test_scan_agrees_with_the_kernel_of_mamba_ssm() -> None:
    pytest.importorskip("mamba_ssm")
    if not torch.cuda.is_available():
        pytest.skip("the kernel needs a GPU")
    on_gpu = selective_scan(*draw_scan(200, "cuda")).cpu()
    torch.testing.assert_close(on_gpu, selective_scan(*draw_scan(200)), atol=1e-4, rtol=1e-4)


def test_layer_agrees_with_mamba_of_transformers() -> None:
    recorded = json.loads((REFERENCE / "mamba.json").read_text())
    block = MambaBlock(MambaConfig(dim=32, states=4))
    assert {key: list(value.shape) for key, value in block.state_dict().items()} == recorded["layout"]
    weights = seeded().seeded_state_dict(recorded["layout"])
    block.load_state_dict({key: torch.from_numpy(value) for key, value in weights.items()})
    with torch.no_grad():
        found = block(torch.from_numpy(seeded().seeded_input(tuple(recorded["input_shape"])))).numpy()
    with np.load(REFERENCE / "mamba.npz") as outputs:
        expected = outputs["output"]
    assert np.linalg.norm(found - expected) < 1e-5 * np.linalg.norm(expected)


def test_initial_steps_and_rates_are_those_of_mamba() -> None:
    torch.manual_seed(0)
    block = MambaBlock(MambaConfig(dim=256, states=3))
    steps = torch.nn.functional.softplus(block.dt_proj.bias.detach())
    assert 0.001 <= float(steps.min()) < 0.0015 and 0.08 < float(steps.max()) <= 0.1
    assert float(steps.log().mean().exp()) == pytest.approx(0.01, rel=0.15), "even in the logarithm"
    torch.testing.assert_close(-block.A_log.exp(), torch.tensor([-1.0, -2.0, -3.0]).expand(512, 3))
    assert tuple(block.dt_proj.weight.shape) == (512, 16)


def make(bidirectional: bool) -> MambaHead:
    torch.manual_seed(0)
    head = create_head(MambaConfig(dim=8, states=4, bidirectional=bidirectional), {"f": (6,)}, (2,)).eval()
    assert isinstance(head, MambaHead)
    for value in head.parameters():
        torch.nn.init.normal_(value, std=0.5)
    return head


GAPS = torch.tensor([[0, 0, 1, 1, 0, 1, 0, 1, 0]]).bool()


@pytest.mark.parametrize("bidirectional", [True, False])
@torch.no_grad()
def test_frames_that_are_there_are_read_one_after_another(bidirectional: bool) -> None:
    """As if the gaps were cut out; a gap repeats the frame before it."""
    head, values = make(bidirectional), torch.randn(1, 9, 6)
    found = head({"f": values}, {"f": GAPS})[0]
    without = head({"f": values[:, GAPS[0]]}, {"f": torch.ones(1, 4).bool()})[0]
    torch.testing.assert_close(found[2:], without[[0, 1, 1, 2, 2, 3, 3]], atol=1e-5, rtol=1e-5)
    # frames before the first one: nothing was read yet, unless the scan comes from the end
    expected = without[0] if bidirectional else head.output(head.norm(torch.zeros(8)))
    torch.testing.assert_close(found[:2], expected.expand(2, -1), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_both_directions_mirror_each_other() -> None:
    """With forward and backward scan exchanged, a window from its end to its start gives the mirrored outputs."""
    head, values = make(True), torch.randn(1, 9, 6)
    mask = torch.ones(1, 9).bool()
    found = head({"f": values}, {"f": mask})
    for layer in head.layers:
        layer.forwards, layer.backwards = layer.backwards, layer.forwards
    torch.testing.assert_close(head({"f": values.flip(1)}, {"f": mask}).flip(1), found, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_no_frame_sees_a_later_one_even_across_gaps() -> None:
    head, values, mask = make(False), torch.randn(1, 9, 6), GAPS.clone()
    found = head({"f": values}, {"f": mask})
    for cut in range(1, 9):
        shorter = head({"f": values[:, :cut]}, {"f": mask[:, :cut]})
        torch.testing.assert_close(shorter, found[:, :cut], atol=1e-5, rtol=1e-5)
