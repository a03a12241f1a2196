"""`abaw export`: files that onnxruntime runs to the same outputs as torch, and what they say about themselves."""

import csv
import json
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from abaw.backbones.backbone import create_backbone, describe
from abaw.backbones.vision.preprocess import apply_view
from abaw.evaluate.trained import Selection, TrainedRun
from abaw.media.images import read_image
from abaw.pipeline import export_feature, train_seeds
from abaw.predict import onnx_graphs
from abaw.predict.onnx_graphs import EncoderGraph, Graph, Input, largest_difference, write_graph
from abaw.predict.run_export import _is_of_images
from abaw.store import FeatureStore
from abaw.tests.support.paths import CHECKOUT, DATA
from abaw.tests.support.stores import put_feature
from abaw.train.config import make_config
from abaw.train.heads.recurrent import read_first
from abaw.train.heads.selective_scan import selective_scan
from abaw.train.runs import Run

CROPS = DATA / "sample" / "cropped_aligned" / "single_face"
MISSING = 5  # the frame without a crop
HEAD = {"name": "tcn", "dim": 8, "layers": 2}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Crops of 14 frames without the fifth, and a store that has their HOG as video `val`, with a column of noise."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "crops").mkdir()
    for number in sorted({*range(1, 15)} - {MISSING}):
        shutil.copy(CROPS / f"{number:05}.jpg", folder / "crops")
    files = sorted((folder / "crops").iterdir())
    store, hog, rng = FeatureStore.create(folder / "store.zarr"), create_backbone("hog"), np.random.default_rng(0)
    images = hog.preprocess(torch.from_numpy(np.stack([read_image(file) for file in files])))
    values = np.zeros((14, *hog.spec.shape), dtype=np.float32)
    present = np.arange(14) != MISSING - 1
    values[present] = hog(images)  # type: ignore[assignment]
    store.add_feature("hog", **describe(hog, hog.spec, ""))
    put_feature(store, "hog", "train", rng.random((60, *hog.spec.shape)))
    put_feature(store, "hog", "val", values, present)
    for split, n in (("train", 60), ("val", 14)):
        store.write_labels("va", split, split, rng.uniform(-1, 1, (n, 2)).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def run(work: Path) -> Run:
    """A run on these, of windows of 10 frames."""
    config = make_config({"task": "va", "features": ("hog",), "head": HEAD, "window": 10, "epochs": 1})
    return train_seeds([config], FeatureStore.open(work / "store.zarr"), work / "runs", "va", device="cpu")[0][0]


def test_an_exported_run_predicts_without_torch(work, run, run_cli, capsys, monkeypatch):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    words = ("export", run.name, "--runs", work / "runs", "--out", work / "out")
    done = run_cli(*words)
    assert done.exit_code == 0, done.output
    assert "head.onnx: hog (batch, time, 1764), hog.mask (batch, time) -> outputs" in done.output
    assert "encoder-hog.onnx: images (n, 112, 112, 3) -> hog" in done.output
    assert "Checked with onnxruntime: outputs differ from torch by" in done.output
    again = run_cli(*words)
    assert again.exit_code == 2 and "exists. Delete it, or choose another folder with --out." in again.output
    about = onnxruntime.InferenceSession(str(work / "out" / "head.onnx")).get_modelmeta().custom_metadata_map
    assert (about["task"], about["level"], about["window"], about["stride"]) == ("va", "frame", "10", "5")
    assert (about["missing"], about["min_quality"]) == ("mask", "0")
    assert json.loads(about["outputs"]) == ["valence", "arousal"]
    assert json.loads(about["kinds"]) == ["regression", "regression"] and about["checkpoint"] == run.digest()
    store = FeatureStore.open(work / "store.zarr")
    expected = TrainedRun.open(run, "cpu").predict(store, Selection("val"))["val"].outputs
    assert expected.std() > 0.02
    export_feature(store, "hog", work / "hog", "npy")

    def example(*words: str) -> list[dict[str, str]]:
        monkeypatch.setattr(sys, "argv", ["onnx_without_torch.py", *words])
        capsys.readouterr()
        runpy.run_path(str(CHECKOUT / "examples" / "onnx_without_torch.py"))
        return list(csv.DictReader(capsys.readouterr().out.splitlines()))

    # Pillow decodes some pixels to another grey level
    for words, tolerance in ((("crops",), 2e-3), (("val", f"hog={work / 'hog'}"), 1e-5)):
        rows = example(str(work / "out"), str(work / words[0]), *words[1:])
        frames = [int(row["frame"]) for row in rows]
        assert frames == sorted({*range(1, 15)} - {MISSING})
        found = np.array([[float(row["valence"]), float(row["arousal"])] for row in rows])
        np.testing.assert_allclose(found, expected[np.array(frames) - 1], atol=tolerance)


@pytest.mark.parametrize("view", ["", "hflip"])
def test_pixels_are_normalised_and_mirrored_as_for_features(view):
    fer = create_backbone("fer")
    images = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    (found,) = EncoderGraph(fer.network, fer.specs, mirrored=view == "hflip")(images)
    expected = fer(fer.preprocess(apply_view(images, view)))
    assert isinstance(expected, Tensor)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


class Operators(nn.Module):
    """What ONNX has operators of its own for: recurrent networks in both directions, and the scan of Mamba."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(4, 3, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(6, 4, batch_first=True, bidirectional=True)
        self.rates = nn.Parameter(-torch.rand(8, 5))

    def forward(self, values: Tensor, shown: Tensor) -> tuple[Tensor, Tensor]:
        """States of the networks, and of the scan."""
        counts = shown.sum(dim=1).clamp(min=1)
        states = read_first(self.gru, read_first(self.lstm, values, counts), counts)
        write, read = states[..., :5], states[..., 3:]
        return states, selective_scan(states, states.exp(), self.rates, write, read, self.rates[:, 0])


def test_recurrent_networks_and_scans_of_any_length(tmp_path):
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    inputs = {"values": Input((4,), torch.float32), "shown": Input((), torch.bool)}
    graph = Graph(Operators().eval(), inputs, ("states", "scan"), ("batch", "time"), ((1, 3), (1, 7, 40)))
    write_graph(graph, tmp_path / "graph.onnx", {}, "It")
    difference = largest_difference(graph, tmp_path / "graph.onnx")
    assert difference is not None and difference < 1e-5
    graph.module.rates.data *= 1.01  # type: ignore[union-attr,operator]
    other = largest_difference(graph, tmp_path / "graph.onnx")
    assert other is not None and other > 1e-4


def test_features_of_old_stores_are_told_apart_by_their_names(run):
    """Runs on them have no records."""
    features = {name: {"fingerprint": "0" * 64, "shape": [88]} for name in ("hog", "egemaps", "hog@hflip", "mine")}
    old = replace(run, features=features)
    assert [name for name in features if _is_of_images(old, name)] == ["hog", "hog@hflip", "mine"]


def test_without_the_packages(run, work, run_cli, monkeypatch):
    monkeypatch.setattr(onnx_graphs, "PACKAGES", ("onnx", "nothing_like_this"))
    done = run_cli("export", run.name, "--runs", work / "runs", "--out", work / "none")
    assert done.exit_code == 2
    assert "Exporting needs nothing_like_this. Install: pip install onnx onnxscript onnxruntime" in done.output
    assert not (work / "none").exists()
