"""Heads and losses of other distributions, from the command line to evaluation."""

import json
import subprocess
import sys

import pytest

from abaw.tests.support.plugins import run_commands, write_distribution
from abaw.tests.support.processes import run_code

OPTIONS = """
from typing import Literal
from abaw.train.head_options import HeadConfig
from abaw.train.loss_options import LossConfig

class ShiftConfig(HeadConfig):
    built_by = "shift_parts:ShiftHead"
    name: Literal["shift"] = "shift"
    frames: int = 1

class AbsoluteConfig(LossConfig):
    built_by = "shift_parts:AbsoluteLoss"
    kinds = ("regression",)
    name: Literal["absolute"] = "absolute"
    factor: float = 1.0

class WideConfig(HeadConfig):
    built_by = "shift_parts:WideHead"
    name: Literal["wide"] = "wide"

class PlainConfig(HeadConfig):
    built_by = "torch.nn:Identity"
    name: Literal["plain"] = "plain"

class ManyConfig(LossConfig):
    built_by = "shift_parts:ManyLoss"
    name: Literal["many"] = "many"

class FailingConfig(LossConfig):
    built_by = "shift_parts:FailingLoss"
    name: Literal["failing"] = "failing"

class TakenConfig(HeadConfig):
    built_by = "shift_parts:ShiftHead"
    name: Literal["gru"] = "gru"

class OpenConfig(HeadConfig):
    built_by = "shift_parts:ShiftHead"
    name: str = "open"

class LostConfig(HeadConfig):
    built_by = "shift_parts:NoHead"
    name: Literal["lost"] = "lost"
"""
PARTS = """
import torch
from torch import nn
from abaw.train.heads.inputs import Head, JoinFeatures

class ShiftHead(Head):
    def __init__(self, config, shapes, groups):
        super().__init__(JoinFeatures(shapes))
        self.frames = config.frames
        self.output = nn.Linear(self.inputs.width, sum(groups))

    def forward(self, features, masks):
        return self.output(self.inputs(features, masks)).roll(self.frames, dims=1)

class WideHead(ShiftHead):
    def __init__(self, config, shapes, groups):
        super().__init__(type("Config", (), {"frames": 0}), shapes, (*groups, 1))

class ManyLoss(nn.Module):
    def __init__(self, config, task, labels, valid):
        super().__init__()

    def forward(self, outputs, labels, valid, progress):
        return outputs.sum(-1)

class FailingLoss(ManyLoss):
    def forward(self, outputs, labels, valid, progress):
        raise ArithmeticError("odd")

class AbsoluteLoss(nn.Module):
    def __init__(self, config, task, labels, valid):
        super().__init__()
        self.factor = config.factor

    def forward(self, outputs, labels, valid, progress):
        return self.factor * torch.where(valid, outputs - labels, 0).abs().mean()
"""
ATTEMPTS = """
import json, sys, traceback
from click.testing import CliRunner
from abaw.cli import main

for words in json.loads(sys.argv[1]):
    result = CliRunner().invoke(main, words)
    print(f"ended with {result.exit_code}:", result.output, *traceback.format_exception_only(result.exception))
"""
HEADS = {
    "shift": "shift_options:ShiftConfig",
    "gru": "shift_options:TakenConfig",
    "renamed": "shift_options:ShiftConfig",
    "open": "shift_options:OpenConfig",
    "lost": "shift_options:LostConfig",
    "wide": "shift_options:WideConfig",
    "plain": "shift_options:PlainConfig",
    "foreign": "shift_options:AbsoluteConfig",
}


@pytest.fixture
def run_with_plugins(process_env, tmp_path):
    """Runs abaw in a process that finds the distribution abaw-shift."""
    losses = {name: f"shift_options:{name.capitalize()}Config" for name in ("absolute", "many", "failing")}
    entries = {"abaw.heads": HEADS, "abaw.losses": losses}
    modules = {"shift_options": OPTIONS, "shift_parts": PARTS}
    write_distribution(tmp_path / "site", "abaw-shift", "1.0", entries, modules)

    def run(*commands):
        environment = {**process_env, "PYTHONPATH": f"{tmp_path / 'site'}:{process_env['PYTHONPATH']}"}
        return run_commands(commands, environment, tmp_path / "work")

    return run


def test_head_and_loss_of_another_distribution_are_trained_resumed_and_evaluated(
    run_with_plugins, tiny_store, tmp_path
):
    runs = ("--store", str(tiny_store), "--runs", str(tmp_path / "runs"))
    options = ("--task", "va", "--head", "shift", "--loss", "absolute", "--run", "mine")
    settings = ("--set", "head.frames=3", "--set", "loss.factor=2", "--set", "epochs=1")
    trained = run_with_plugins(("train", *runs, *options, *settings))
    assert trained.code == 0, trained.output
    config = tmp_path / "runs" / "mine" / "config.json"
    content = json.loads(config.read_text())
    assert content["config"]["head"] == {"name": "shift", "frames": 3}
    assert content["config"]["loss"] == {"name": "absolute", "factor": 2.0}

    content["config"]["epochs"] = 2
    config.write_text(json.dumps(content))
    resumed = run_with_plugins(
        ("train", *runs, "--resume", "--run", "mine"), ("eval", *runs, "mine"), ("list", "losses")
    )
    assert resumed.code == 0, resumed.output
    assert len((tmp_path / "runs" / "mine" / "metrics.jsonl").read_text().splitlines()) == 2
    assert "factor=1.0" in next(line for line in resumed.output.splitlines() if "absolute" in line)


def test_plugins_that_cannot_be_used_are_named_with_their_distribution(run_with_plugins, tiny_store, tmp_path):
    runs = ("--store", str(tiny_store), "--runs", str(tmp_path / "runs"))
    result = run_with_plugins(("list", "heads"), ("train", *runs, "--task", "va", "--head", "lost"))
    words = " ".join(result.output.split())
    for expected in (
        "Plug-in gru (abaw.heads) of abaw-shift 1.0 is left out: ValueError: the name is taken by abaw ",
        "Plug-in renamed (abaw.heads) of abaw-shift 1.0 is left out: TypeError: ShiftConfig does not have the name",
        "Plug-in open (abaw.heads) of abaw-shift 1.0 is left out: TypeError: OpenConfig does not have the name 'open'",
        "Plug-in foreign (abaw.heads) of abaw-shift 1.0 is left out: TypeError: AbsoluteConfig is not derived from",
        "shift_parts:NoHead of abaw-shift 1.0 cannot be imported (AttributeError",
    ):
        assert expected in words
    assert any("gru" in line and "layers=2" in line for line in result.output.splitlines())
    assert not (tmp_path / "runs").exists()


def test_heads_and_losses_that_do_not_keep_to_their_interface(run_with_plugins, process_env, tiny_store, tmp_path):
    """Four trainings in one process, which ends none of them."""
    train = ("train", "--store", str(tiny_store), "--runs", str(tmp_path / "runs"), "--device", "cpu", "--task", "va")
    choices = {
        "wide": ("--head", "wide"),
        "plain": ("--head", "plain"),
        "many": ("--head", "linear", "--loss", "many"),
        "failing": ("--head", "linear", "--loss", "failing"),
    }
    commands = json.dumps([[*train, "--set", "epochs=1", *choice] for choice in choices.values()])
    environment = {**process_env, "PYTHONPATH": f"{tmp_path / 'site'}:{process_env['PYTHONPATH']}"}
    ended = run_code(ATTEMPTS, commands, environment=environment, folder=tmp_path / "work")
    assert ended.code == 0, ended.output
    outputs = dict(zip(choices, ended.output.split("ended with ")[1:], strict=True))
    assert outputs["wide"].startswith("2: ") and "Head 'wide' gave outputs of shape (" in outputs["wide"]
    assert ", 3), not (batch, time, 2). Correct its forward." in outputs["wide"]
    assert "2: " in outputs["plain"] and "torch.nn:Identity made a Identity, not a Head of" in outputs["plain"]
    assert "2: " in outputs["many"] and "Loss 'many' gave a tensor of shape (" in outputs["many"]
    assert "ArithmeticError: odd" in outputs["failing"]
    assert "This is a fault in abaw-shift 1.0, a plug-in." in outputs["failing"]


def test_a_config_loads_no_torch(process_env):
    code = (
        "import sys; from abaw.train.config import make_config; "
        "make_config({'task': 'va', 'features': ('hog',), 'head': {'name': 'tcn'}}); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], env=process_env, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
