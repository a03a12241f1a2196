"""Extraction on a GPU: features of the CPU, streams that change nothing, memory that runs out, compiled networks.

`ABAW_TEST_DEVICE=cpu` runs what can be run without a GPU, to try the tests themselves.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from abaw.backbones.backbone import create_backbone, describe
from abaw.backbones.extractor import Backbone
from abaw.backbones.registry import Built, list_specs
from abaw.backbones.spec import UNTRAINED, BackboneSpec, ImageInput
from abaw.core.errors import UsageError
from abaw.core.progress import Summary
from abaw.datasets.layouts import open_dataset
from abaw.extract import runner
from abaw.extract.device_copies import PlainCopies
from abaw.extract.feature import Feature
from abaw.extract.runner import Runner
from abaw.media.decoders import PROCESSOR, TorchcodecDecoder
from abaw.store import FeatureStore
from abaw.tests.support.images import draw_noise
from abaw.tests.support.processes import assert_equal_stores
from abaw.tests.support.voices import encode, make_voice

DEVICE = os.environ.get("ABAW_TEST_DEVICE", "cuda")
ON_GPU = DEVICE.startswith("cuda")
pytestmark = pytest.mark.skipif(ON_GPU and not torch.cuda.is_available(), reason="needs a GPU")
needs_cuda = pytest.mark.skipif(not ON_GPU, reason="needs CUDA")

# one output of each network; the largest differ from the others in size alone
TOO_LARGE = ("mae-h", "iresnet200")
NETWORKS = {spec.family: spec for spec in reversed(list_specs()) if not spec.family.startswith(TOO_LARGE)}
PICTURES = [name for name, spec in NETWORKS.items() if spec.modality == "vision"]
SOUNDS = [name for name, spec in NETWORKS.items() if spec.modality == "audio" and spec.weights != "none"]


def cosines(found: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cosine_similarity(*(values.cpu().float().flatten(1) for values in (found, wanted)))


def features_of(name: str, device: str, precision: str = "float32", compiled: bool = False) -> torch.Tensor:
    """Features of four images, which have the size of the input: a GPU resizes without rounding to grey levels."""
    spec = NETWORKS[name]
    untrained = spec.weights not in ("none", "shipped")
    backbone = create_backbone(spec.name, device=device, precision=precision, untrained=untrained, compiled=compiled)
    assert spec.image is not None
    images = torch.from_numpy(np.stack([draw_noise(seed, max(spec.image.height_width)) for seed in range(4)]))
    features = backbone(backbone.preprocess(images))
    assert isinstance(features, torch.Tensor)
    return features


@pytest.mark.parametrize("name", PICTURES)
def test_networks_for_pictures_give_the_features_of_the_cpu(name):
    wanted = features_of(name, "cpu")
    assert cosines(features_of(name, DEVICE), wanted).min() > 0.9999
    assert cosines(features_of(name, DEVICE, "bfloat16"), wanted).min() > 0.999


@pytest.mark.parametrize("name", SOUNDS)
def test_networks_for_sound_give_the_features_of_the_cpu(name):
    voice, spec = make_voice(4.0), NETWORKS[name]
    found, wanted = (encode(create_backbone(spec.name, device=d, untrained=True), voice) for d in (DEVICE, "cpu"))
    np.testing.assert_array_equal(found[0], wanted[0])
    for output, values in wanted[1].items():
        assert cosines(torch.from_numpy(found[1][output]), torch.from_numpy(values)).min() > 0.999


@pytest.fixture(scope="module")
def codec():
    try:
        return TorchcodecDecoder(torch.device(DEVICE))
    except UsageError as error:
        pytest.skip(str(error))


def test_decoded_crops_are_those_of_the_processor(codec, make_crops, tmp_path):
    """From several threads at once; a grey level or two of rounding, which sums up where colours are upsampled."""
    folder = make_crops(tmp_path, list(range(1, 65)), seed=3)
    pieces = [[str(file) for file in sorted(folder.iterdir())[start : start + 8]] for start in range(0, 64, 8)]
    contents = [[Path(file).read_bytes() for file in piece] for piece in pieces]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(codec.images, pieces * 4, contents * 4))
    wanted = [PROCESSOR.images(piece, content) for piece, content in zip(pieces, contents, strict=True)]
    for piece, expected in zip(found, wanted * 4, strict=True):
        for one, other in zip(piece, expected, strict=True):
            difference = np.abs(one.image.astype(int) - other.image)
            assert not one.by_processor and difference.mean() < 4 and np.percentile(difference, 99) < 32


@pytest.mark.parametrize("codec_name", ["libx264", "mpeg4"])
def test_decoded_videos_are_those_of_the_processor(codec, codec_name, numbered, tmp_path):
    file = numbered.write(tmp_path / "v.mp4", 60, size=(512, 256), codec=codec_name)
    times_s = np.linspace(0, 1.98, 45).tolist()
    found, wanted = (one.pictures_at(file, times_s, 128) for one in (codec, PROCESSOR))
    assert [numbered.number(one.image) for one in found] == [numbered.number(other.image) for other in wanted]
    assert codec_name != "libx264" or not any(one.by_processor for one in found)
    for one, other in zip(found, wanted, strict=True):
        assert one.image.shape == other.image.shape and np.abs(one.image.astype(int) - other.image).mean() < 4


class Delayed(nn.Module):
    """A small network that begins late on a GPU, so that whatever does not wait for it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 64, 7, 4), nn.ReLU(), nn.Conv2d(64, 300, 5))

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        if images.is_cuda:
            torch.cuda._sleep(3_000_000)  # a millisecond or two
        return {"values": self.layers(images).amax((2, 3))}


class Hungry(nn.Module):
    """A network that takes 64 MiB for each image."""

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        room = torch.empty(len(images), 16, 2**20, device=images.device)
        room[:, 0, 0] = images.mean((1, 2, 3))
        return {"values": room[:, 0, :1] * 2}


def made(network: nn.Module, n_values: int) -> Feature:
    torch.manual_seed(0)
    spec = BackboneSpec("made", "made", "values", "vision", (n_values,), "made", UNTRAINED, ImageInput(64))
    return Feature("made", Backbone(Built(network, (spec,)), DEVICE), spec)


def extract(root, features, store, batch_size) -> Summary:
    opened = FeatureStore.create(store)
    for feature in features:
        opened.add_feature(feature.name, **describe(feature.backbone, feature.spec, feature.view))
    dataset = open_dataset(root)
    return Runner(opened, features, batch_size).run(dataset.open(video) for video in dataset.videos)


@pytest.fixture
def odd_sizes(make_data, make_crops):
    """1,100 frames of three sizes in 40 videos."""
    root = make_data({f"{number:02}": 5 + 45 * (number % 2) for number in range(40)})
    for number in range(0, 40, 3):
        make_crops(root / f"cropped_aligned/{number:02}", [2, 5], seed=9, size=250)
        make_crops(root / f"cropped_aligned/{number:02}", [3], seed=9, size=50)
    return root


def test_streams_give_the_features_of_the_plain_loop(odd_sizes, monkeypatch, tmp_path):
    feature = made(Delayed(), 300)
    mirrored = Feature("made@hflip", feature.backbone, feature.spec, "hflip")
    for turn in range(3):
        assert extract(odd_sizes, [feature, mirrored], tmp_path / f"{turn}.zarr", 7 + turn).ok
        with monkeypatch.context() as patched:
            patched.setattr(runner, "copies_of", PlainCopies)
            assert extract(odd_sizes, [feature, mirrored], tmp_path / f"plain-{turn}.zarr", 7 + turn).ok
        assert_equal_stores(tmp_path / f"{turn}.zarr", tmp_path / f"plain-{turn}.zarr")


@needs_cuda
@pytest.mark.parametrize(
    ("name", "view"), [("vit-tiny", ""), ("iresnet18", "hflip"), ("dan", ""), ("mae", "mask0.75.0")]
)
def test_starting_a_batch_waits_for_nothing(name, view, make_data, monkeypatch, tmp_path):
    """Whatever makes the host wait for the GPU within a batch is an error here."""
    spec = NETWORKS[name]
    backbone = create_backbone(spec.name, device=DEVICE, precision="bfloat16", untrained=True)
    plain, n_batches = Runner._forward, []

    def forward(self, batch):
        n_batches.append(batch.n_frames)
        if len(n_batches) > 4:  # before, constants are made and libraries loaded
            torch.cuda.set_sync_debug_mode("error")
        try:
            return plain(self, batch)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    monkeypatch.setattr(Runner, "_forward", forward)
    feature = Feature("made", backbone, backbone.spec, view)
    assert extract(make_data({"a": 60}), [feature], tmp_path / "store.zarr", 6).ok and len(n_batches) == 10


@needs_cuda
def test_a_batch_that_the_gpu_has_no_memory_for_is_halved(make_data, tmp_path):
    root = make_data({"a": 70, "b": 9})
    wanted = made(Hungry(), 1)
    assert extract(root, [wanted], tmp_path / "plain.zarr", 4).ok
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(DEVICE).total_memory
    try:
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + 2**30) / total)  # 1 GiB: 16 images
        summary = extract(root, [wanted], tmp_path / "halved.zarr", 64)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert summary.ok and summary.n_frames == 79
    assert [sentence.rpartition(" ")[2] for sentence in summary.warnings][:2] == ["32.", "16."]
    assert_equal_stores(tmp_path / "halved.zarr", tmp_path / "plain.zarr")


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", ["vit-tiny", "iresnet18"])
def test_compiled_networks_give_the_same_features(name, precision):
    plain = features_of(name, DEVICE, precision)
    compiled = features_of(name, DEVICE, precision, compiled=True)
    assert cosines(compiled, plain).min() > (0.99999 if precision == "float32" else 0.999)
