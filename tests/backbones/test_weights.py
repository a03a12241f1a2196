"""Weights files: every form that people have them in, what is said about them, and that none of them runs code."""

import argparse
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from abaw.backbones.backbone import create_backbone
from abaw.backbones.checkpoint_fit import _resize_positions
from abaw.backbones.extractor import Backbone
from abaw.backbones.registry import get_spec
from abaw.backbones.vision.dan import Dan
from abaw.backbones.weights import default_weights, file_sha256, identify, read_tensors
from abaw.core.errors import CheckpointError
from abaw.tests.support.paths import DATA

REFERENCE = DATA / "reference"
WIDTH = 192  # of vit-tiny, the smallest network that has everything


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    """A state dict of vit-tiny, whose values are not those that an untrained network starts from."""
    network = create_backbone("vit-tiny-mean", untrained=True)._network.model
    generator = torch.Generator().manual_seed(7)
    return {
        key: value + 0.05 * torch.randn(value.shape, generator=generator) for key, value in network.state_dict().items()
    }


def read_layout(name: str) -> dict[str, Tensor]:
    """A state dict of zeros that take no room, in the layout of a public checkpoint."""
    layout = json.loads((REFERENCE / f"{name}.json").read_text())["layout"]
    return {key: torch.zeros(1).expand(shape) if shape else torch.tensor(0) for key, shape in layout.items()}


def loaded(backbone: Backbone) -> dict[str, Tensor]:
    network = backbone._network
    return getattr(network, "model", network).state_dict()


def save(content: object, file: Path) -> Path:
    torch.save(content, file)
    return file


def assert_equal(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    assert list(found) == list(wanted) and all(torch.equal(found[key], wanted[key]) for key in wanted)


@pytest.mark.parametrize("container", ["", "state_dict", "model", "model_state_dict", "net"])
@pytest.mark.parametrize("prefix", ["", "module.", "backbone.", "encoder.", "module.backbone."])
def test_containers_and_prefixes(state, container, prefix, tmp_path):
    inside = {prefix + key: value for key, value in state.items()}
    file = save({container: inside, "epoch": 3} if container else inside, tmp_path / "weights.pth")
    backbone = create_backbone("vit-tiny-mean", file)
    file.unlink()
    assert_equal(loaded(backbone), state)
    assert backbone.notes == ()


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".pkl", ".safetensors", ".old.pth"])
def test_file_formats(state, suffix, tmp_path):
    file = tmp_path / f"weights{suffix}"
    if suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file, _use_new_zipfile_serialization=suffix != ".old.pth")
    backbone = create_backbone("vit-tiny-cls", file)
    assert_equal(loaded(backbone), state)
    assert backbone.weights_sha256 == file_sha256(file)


def test_training_state_beside_the_weights(state, tmp_path):
    content = {"model": state, "args": argparse.Namespace(lr=1e-3), "best": np.float64(0.3), "optimizer": {"lr": 1}}
    assert_equal(loaded(create_backbone("vit-tiny-mean", save(content, tmp_path / "run.pth"))), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(state, dtype, tmp_path):
    half = {key: value.to(dtype) for key, value in state.items()}
    backbone = create_backbone("vit-tiny-mean", save(half, tmp_path / "half.pth"))
    assert all(value.dtype == torch.float32 for value in loaded(backbone).values())
    assert_equal(loaded(backbone), {key: value.float() for key, value in half.items()})


def test_heads_are_dropped_and_said(state, tmp_path):
    head = {"head.weight": torch.zeros(8, WIDTH), "head.bias": torch.zeros(8)}
    file = save(state | head, tmp_path / "finetuned.pth")
    backbone = create_backbone("vit-tiny-mean", file)
    assert_equal(loaded(backbone), state)
    assert backbone.notes == (f"Dropped head.weight, head.bias of {file}.",)


def test_a_backbone_inside_a_larger_model(state, tmp_path):
    whole = {f"module.encoder.{key}": value for key, value in state.items()}
    whole |= {"module.temporal.weight": torch.zeros(3), "module.fc.bias": torch.zeros(8)}
    file = save(whole, tmp_path / "whole.pth")
    backbone = create_backbone("vit-tiny-mean", file)
    assert_equal(loaded(backbone), state)
    assert backbone.notes == (f"Dropped module.temporal.weight, module.fc.bias of {file}.",)


def cubic_matrix(n_from: int, n_to: int) -> np.ndarray:
    """Cubic convolution (Keys, 1981; a = -.75, as torch has it) as a matrix, edges repeated: (n_to, n_from)."""
    matrix, a = np.zeros((n_to, n_from)), -0.75
    for row in range(n_to):
        position = (row + 0.5) * n_from / n_to - 0.5
        for tap in range(int(np.floor(position)) - 1, int(np.floor(position)) + 3):
            matrix[row, min(max(tap, 0), n_from - 1)] += cubic(abs(position - tap), a)
    return matrix


def smooth_cubic_matrix(n_from: int, n_to: int) -> np.ndarray:
    """The same with a = -.5, wider where it shrinks and without what lies beyond the edges, as timm has it."""
    matrix, wide = np.zeros((n_to, n_from)), max(n_from / n_to, 1)
    for row in range(n_to):
        position = (row + 0.5) * n_from / n_to - 0.5
        for tap in range(n_from):
            matrix[row, tap] = cubic(abs(position - tap) / wide, -0.5)
    return matrix / matrix.sum(axis=1, keepdims=True)


def cubic(x: float, a: float) -> float:
    if x <= 1:
        return (a + 2) * x**3 - (a + 3) * x**2 + 1
    return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0


def interpolated(embeddings: torch.Tensor, side: int, matrix: np.ndarray) -> np.ndarray:
    """Those of patches, (196, width), from (1, 1 + side**2, width) with a class token's in front."""
    grid = embeddings[0, 1:].numpy().reshape(side, side, -1)
    return np.einsum("ai,bj,ijc->abc", matrix, matrix, grid).reshape(196, -1)


@pytest.mark.parametrize("side", [7, 12, 24])
def test_position_embeddings_of_another_size(state, side, tmp_path):
    embeddings = torch.randn(1, 1 + side**2, WIDTH, generator=torch.Generator().manual_seed(1))
    file = save(state | {"pos_embed": embeddings}, tmp_path / "other.pth")
    backbone = create_backbone("vit-tiny-mean", file)
    found = loaded(backbone)["pos_embed"].numpy()

    assert np.array_equal(found[0, 0], embeddings[0, 0].numpy()), "the class token's is kept"
    assert np.abs(found[0, 1:] - interpolated(embeddings, side, smooth_cubic_matrix(side, 14))).max() < 1e-4
    sizes = f"Position embeddings of {side}x{side} patches were interpolated to 14x14"
    assert backbone.notes == (f"{sizes} (pos_embed of {file}).",)


@pytest.mark.parametrize("side", [7, 12, 24])
def test_position_embeddings_of_networks_other_than_those_of_timm(side):
    embeddings = torch.randn(1, 1 + side**2, 8, generator=torch.Generator().manual_seed(1))
    found, note = _resize_positions(embeddings, torch.Size((1, 197, 8)))
    assert torch.equal(found[0, 0], embeddings[0, 0])
    assert np.abs(found[0, 1:].numpy() - interpolated(embeddings, side, cubic_matrix(side, 14))).max() < 1e-4
    assert note == f"Position embeddings of {side}x{side} patches were interpolated to 14x14"


def test_position_embeddings_that_make_no_square_are_an_error(state, tmp_path):
    file = save(state | {"pos_embed": torch.zeros(1, 100, WIDTH)}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"misshapen \(pos_embed \(1, 100, 192\) instead of \(1, 197, 192\)\)"):
        create_backbone("vit-tiny-mean", file)


def test_mae_pretraining_file(tmp_path):
    decoder = {f"decoder_blocks.{index}.norm1.weight": torch.zeros(512) for index in range(3)}
    extra = {"mask_token": torch.zeros(1, 1, 512), "decoder_pos_embed": torch.zeros(1, 197, 512)} | decoder
    file = save({"model": read_layout("mae_vit_base") | extra}, tmp_path / "mae.pth")
    backbone = create_backbone(("mae-mean", "mae-cls"), file)
    assert backbone.notes == (
        f"Dropped mask_token, decoder_pos_embed, decoder_blocks.0.norm1.weight and 2 more of {file}.",
    )
    assert identify(file)[:2] == ["mae-mean", "mae-cls"]


def test_mae_finetuned_with_global_pooling(tmp_path):
    file = save(read_layout("mae_vit_base_global_pool"), tmp_path / "mae.pth")
    backbone = create_backbone(("mae-mean", "mae-cls"), file)
    assert {spec.options for spec in backbone.specs} == {(("global_pool", True),)}
    assert len(backbone.notes) == 1
    assert "norms no class token: mae-cls is as the last block left it" in backbone.notes[0]
    assert create_backbone("mae-mean", file).notes == ()


@pytest.mark.parametrize("prefix", ["", "module."])
def test_dan_with_seven_classes(prefix, tmp_path):
    network = Dan(7).eval()
    inside = {prefix + key: value for key, value in network.state_dict().items()}
    file = save({"iter": 5, "model_state_dict": inside}, tmp_path / "affecnet7.pth")
    backbone = create_backbone(("dan", "dan-head"), file)

    logits, head = backbone.specs
    assert logits.shape == (7,) and head.shape == (512,)
    assert logits.classes == ("neutral", "happy", "sad", "surprise", "fear", "disgust", "anger")
    assert "7 classes instead of 8" in backbone.notes[0] and "RAF-DB" in backbone.notes[0]
    assert identify(file)[0] == "dan"
    assert backbone.fingerprint(logits) != get_spec("dan").fingerprint(backbone.weights_sha256)
    features = backbone(torch.zeros(2, 3, 224, 224))
    assert isinstance(features, dict) and features["dan"].shape == (2, 7)
    with torch.inference_mode():
        assert torch.equal(features["dan"], network(torch.zeros(2, 3, 224, 224))["logits"])


def test_dan_with_classes_of_another_dataset(tmp_path):
    backbone = create_backbone("dan", save(Dan(5).state_dict(), tmp_path / "dan.pth"))
    assert backbone.spec.shape == (5,) and backbone.spec.classes == ()
    assert "in an unknown order" in backbone.notes[0]


def test_swin_of_its_authors(tmp_path):
    network = create_backbone("swin-t", untrained=True)
    state = loaded(network)
    renamed = {}
    for key, value in state.items():
        stage, *rest = key.removeprefix("layers.").split(".")
        renamed[f"layers.{int(stage) - 1}.{'.'.join(rest)}" if ".downsample." in key else key] = value
    renamed |= {"layers.0.blocks.0.attn.relative_position_index": torch.zeros(49, 49), "head.bias": torch.zeros(1000)}
    file = save({"model": renamed}, tmp_path / "swin.pth")
    assert_equal(loaded(create_backbone("swin-t", file)), state)
    assert identify(file) == ["swin-t"]


def test_counters_of_old_files_are_filled_in(tmp_path):
    state = {key: value for key, value in Dan(8).state_dict().items() if not key.endswith("num_batches_tracked")}
    assert create_backbone("dan", save(state, tmp_path / "old.pth")).notes == ()


@pytest.mark.parametrize(
    ("layout", "names"),
    [
        ("iresnet50", ["iresnet50"]),
        ("iresnet100", ["iresnet100"]),
        ("dan", ["dan", "dan-head", "dan-map"]),
        ("emma", ["emma", "emma-hidden", "emma-vit", "emma-dan", "emma-dan-head"]),
        ("mae_vit_base", ["mae-mean", "mae-cls", "vit-mean", "vit-cls"]),
        ("mae_vit_base_global_pool", ["mae-mean", "mae-cls", "vit-mean", "vit-cls"]),
    ],
)
@pytest.mark.parametrize("prefix", ["", "module.", "encoder."])
def test_identify(layout, names, prefix, tmp_path):
    inside = {prefix + key: value for key, value in read_layout(layout).items()}
    assert identify(save({"state_dict": inside}, tmp_path / "weights.pth")) == names


def test_error_shows_keys_and_what_the_file_looks_like(tmp_path):
    file = save(read_layout("iresnet100"), tmp_path / "face.pth")
    with pytest.raises(CheckpointError) as raised:
        create_backbone("iresnet50", file)
    message = str(raised.value)
    assert message.startswith(
        f"{file} does not fit iresnet50: 450 unexpected (layer2.4.bn1.weight, layer2.4.bn1.bias, "
    )
    assert "It looks like weights of iresnet100. Pass weights of this network." in message


def test_error_shows_all_three_kinds(state, tmp_path):
    broken = dict(state)
    del broken["cls_token"]
    broken |= {"norm.weight": torch.zeros(5), "strange.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError) as raised:
        create_backbone("vit-tiny-mean", save(broken, tmp_path / "broken.pth"))
    message = str(raised.value)
    assert "1 missing (cls_token); 1 unexpected (strange.weight)" in message
    assert "1 misshapen (norm.weight (5,) instead of (192,))" in message
    assert "It looks like weights of vit-tiny-mean that are incomplete or changed." in message


def test_error_of_an_unknown_layout(tmp_path):
    file = save({"layer.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=r"150 missing \(cls_token, .* It looks like no known backbone\."):
        create_backbone("mae-mean", file)
    assert identify(file) == []


class Payload:
    """Unpickled, it makes a folder: harmless, but code of the file's choosing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("how", ["pickle", "torch", "old torch"])
def test_no_code_of_a_file_is_run(how, tmp_path):
    file, folder = tmp_path / "weights.pkl", tmp_path / "made-by-the-file"
    content = {"extra": Payload(folder)}
    if how == "pickle":
        file.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=how == "torch")
    with pytest.raises(CheckpointError, match=r"mkdir.*not opened.*torch\.save\(model\.state_dict\(\), NEW_FILE\)"):
        create_backbone("dan", file)
    with pytest.raises(CheckpointError, match="could run code"):
        identify(file)
    assert not folder.exists()
    torch.load(file, weights_only=False) if how != "pickle" else pickle.loads(file.read_bytes())
    assert folder.exists(), "the payload works where it is let run"


def test_files_that_are_no_checkpoints(tmp_path):
    (tmp_path / "damaged.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        read_tensors(tmp_path / "damaged.safetensors")
    with pytest.raises(CheckpointError, match="No weights file"):
        read_tensors(tmp_path / "nowhere.pth")
    with pytest.raises(CheckpointError, match="has no state dict: its keys are epoch, lr"):
        read_tensors(save({"epoch": 1, "lr": 0.1}, tmp_path / "options.pth"))
    with pytest.raises(CheckpointError, match="holds a list, not a state dict"):
        read_tensors(save([torch.zeros(1)], tmp_path / "list.pth"))
    cut = save({"weight": torch.zeros(1000)}, tmp_path / "cut.pth")
    cut.write_bytes(cut.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match="cut off"):
        read_tensors(cut)


def test_weights_folder(state, tmp_path, monkeypatch):
    monkeypatch.setenv("ABAW_WEIGHTS", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"put it into \$ABAW_WEIGHTS as dan\.safetensors"):
        default_weights(get_spec("dan"))
    assert save(state, tmp_path / "vit-tiny.pth") == default_weights(get_spec("vit-tiny-cls"))
    assert_equal(loaded(create_backbone("vit-tiny-cls")), state)


def test_vggish_of_torchaudio(tmp_path):
    state = loaded(create_backbone("vggish", untrained=True))
    names = (("features.", "features_network."), ("embeddings.", "embedding_network."))
    renamed = {key.replace(*names[key.startswith("embeddings.")]): value for key, value in state.items()}
    assert renamed.keys().isdisjoint(state)
    assert_equal(loaded(create_backbone("vggish", save({"model": renamed}, tmp_path / "vggish.pt"))), state)
