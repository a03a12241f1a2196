"""The package of examples/plugin, from its data to a score, without a change of abaw's source."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg

from abaw.tests.support.example_plugin import install_example

COMMANDS = """
import json, sys
from abaw.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words, standalone_mode=False)
    except SystemExit as end:
        if end.code:
            raise
"""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(process_env: dict[str, str], tmp_path: Path) -> Run:
    """Runs commands of abaw, one after another in one process that finds the package unless it is not installed."""
    installed = install_example(tmp_path / "site")

    def run_commands(*commands: str, is_installed: bool = True) -> "subprocess.CompletedProcess[str]":
        paths = f"{installed}:{process_env['PYTHONPATH']}" if is_installed else process_env["PYTHONPATH"]
        words = json.dumps([command.split() for command in commands])
        return subprocess.run(
            [sys.executable, "-c", COMMANDS, words], env={**process_env, "PYTHONPATH": paths},
            capture_output=True, text=True, cwd=tmp_path, timeout=300,
        )  # fmt: skip

    return run_commands


def make_pain(root: Path) -> None:
    """Four videos whose brightness is the pain."""
    rng = np.random.default_rng(0)
    for split, video in (("train", "a"), ("train", "b"), ("train", "c"), ("val", "d")):
        pain = rng.uniform(0, 1, 40).round(3)
        folder = root / "pain" / split / video
        folder.mkdir(parents=True)
        for number, value in enumerate(pain, 1):
            picture = np.full((16, 16, 3), round(255 * value), np.uint8)
            (folder / f"{number:05}.jpg").write_bytes(simplejpeg.encode_jpeg(picture))
        folder.with_suffix(".txt").write_text("\n".join(map(str, pain)) + "\n")


def test_a_package_of_ones_own_goes_from_its_data_to_a_score(run: Run, tmp_path: Path) -> None:
    make_pain(tmp_path / "data")
    settings = "--set head.share=0 --set epochs=12 --set window=20 --set lr=0.1 --set loss.factor=2"
    done = run(
        *(f"list {kind}" for kind in ("heads", "losses", "tasks", "detectors", "layouts", "backbones")),
        "extract --data data --store s.zarr --device cpu --backbone tint",
        f"train --store s.zarr --runs runs --device cpu --task pain --run mine --head blend --loss absolute {settings}",
    )
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for name in ("blend", "absolute", "pain", "tint"):
        assert f"{name}: from abaw-example 1.0." in lines
    assert {"whole abaw-example 1.0", "pain abaw-example 1.0"} <= set(lines)
    assert not any(line.startswith("mlp: from") for line in lines), "abaw's own have no note"
    epochs = (tmp_path / "runs" / "mine" / "metrics.jsonl").read_text().splitlines()
    assert max(json.loads(epoch)["score"] for epoch in epochs) > 0.5, "pain is drawn for each frame: by chance it is 0"
    content = json.loads((tmp_path / "runs" / "mine" / "config.json").read_text())
    assert content["plugins"] == dict.fromkeys(("heads", "losses", "tasks"), "abaw-example 1.0")
    feature = json.loads((tmp_path / "s.zarr" / "features" / "tint" / "zarr.json").read_text())["attributes"]["spec"]
    assert feature["source"] == "abaw-example 1.0"


def test_a_run_whose_package_is_gone_names_it(run: Run, run_cli: Callable, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mine"
    folder.mkdir(parents=True)
    config = {"task": "va", "features": ["tint"], "head": {"name": "blend"}, "loss": {"name": "ccc"}}
    content = {"config": config, "features": {}, "created": "", "plugins": {"heads": "abaw-example 1.0"}}
    (folder / "config.json").write_text(json.dumps(content))
    done = run_cli("eval", "mine", "--runs", tmp_path / "runs")
    assert done.exit_code == 1
    assert "Unknown head 'blend'" in done.stderr and "It was made with abaw-example 1.0: install that." in done.stderr
