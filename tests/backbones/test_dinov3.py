"""DINOv3 against transformers, from checkpoints in the layouts of Meta, of transformers and of timm."""

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from abaw.backbones.backbone import create_backbone
from abaw.backbones.registry import get_spec
from abaw.core.errors import CheckpointError

State = dict[str, Tensor]
NAMES = ("dinov3-s16-mean", "dinov3-s16-cls")
TIMM = ("timm/vit_small_patch16_dinov3-mean", "timm/vit_small_patch16_dinov3-cls")
N_REGISTERS = 4


@pytest.fixture(scope="module")
def theirs() -> DINOv3ViTModel:
    """A small one of transformers; all of its weights are random, and so matter."""
    config = DINOv3ViTConfig(num_register_tokens=N_REGISTERS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = DINOv3ViTModel(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" in name or "scale" in name or "bias" in name:
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
                elif "token" in name:
                    parameter.normal_()
    return model


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(1, 3, 256, 256, generator=torch.Generator().manual_seed(1))


def outputs_of(model: DINOv3ViTModel, images: Tensor) -> dict[str, Tensor]:
    """Mean of the patch tokens, without the class token and the registers, and the class token, after the final norm."""
    with torch.inference_mode():
        tokens = model(images).last_hidden_state
    assert tokens.shape[1] == 1 + N_REGISTERS + (images.shape[2] // 16) * (images.shape[3] // 16)
    return {"mean": tokens[:, 1 + N_REGISTERS :].mean(dim=1), "cls": tokens[:, 0]}


def to_meta(state: State, bias: bool = True) -> State:
    """In the layout of Meta's files, which hold more: tables of positions, a mask of the biases, the mask token."""
    names = {
        "embeddings.cls_token": "cls_token",
        "embeddings.register_tokens": "storage_tokens",
        "embeddings.patch_embeddings.weight": "patch_embed.proj.weight",
        "embeddings.patch_embeddings.bias": "patch_embed.proj.bias",
        "norm.weight": "norm.weight",
        "norm.bias": "norm.bias",
    }
    found = {name: state[key] for key, name in names.items()}
    found |= {"mask_token": torch.zeros(1, 384), "rope_embed.periods": torch.ones(16)}
    within = {
        "norm1": "norm1",
        "norm2": "norm2",
        "attention.o_proj": "attn.proj",
        "mlp.up_proj": "mlp.fc1",
        "mlp.down_proj": "mlp.fc2",
    }
    for number in range(12):
        at, to = f"model.layer.{number}", f"blocks.{number}"
        for key, name in within.items():
            found |= {f"{to}.{name}.{kind}": state[f"{at}.{key}.{kind}"] for kind in ("weight", "bias")}
        for kind in ("1", "2"):
            found[f"{to}.ls{kind}.gamma"] = state[f"{at}.layer_scale{kind}.lambda1"]
        query, key, value = (state[f"{at}.attention.{name}_proj.weight"] for name in "qkv")
        found[f"{to}.attn.qkv.weight"] = torch.cat([query, key, value])
        if bias:
            query, value = (state[f"{at}.attention.{name}_proj.bias"] for name in "qv")
            found[f"{to}.attn.qkv.bias"] = torch.cat([query, torch.zeros(384), value])
            found[f"{to}.attn.qkv.bias_mask"] = torch.ones(3 * 384)
    return found


def without_biases(model: DINOv3ViTModel) -> DINOv3ViTModel:
    """The same without biases of queries and values, as Meta's have them all 0."""
    bare = DINOv3ViTModel(model.config).eval()
    zeros = {key: torch.zeros_like(value) for key, value in model.state_dict().items() if "_proj.bias" in key}
    kept = {key: value for key, value in zeros.items() if "q_proj" in key or "v_proj" in key}
    bare.load_state_dict(dict(model.state_dict()) | kept)
    return bare


def hub_keys(state: State) -> State:
    """As the files on the hub have them, which were saved before transformers 5."""
    return {key.removeprefix("model."): value for key, value in state.items()}


@pytest.mark.parametrize(
    ("layout", "names"),
    [(dict, NAMES), (hub_keys, NAMES), (to_meta, NAMES)],
    ids=["transformers", "hub", "meta"],
)
def test_agrees_with_transformers(layout: Callable[[State], State], names, theirs, images, tmp_path):
    save_file(layout(theirs.state_dict()), tmp_path / "weights.safetensors")
    outputs = create_backbone(names, tmp_path / "weights.safetensors")(images)
    assert isinstance(outputs, dict)
    for name, wanted in zip(names, outputs_of(theirs, images).values(), strict=True):
        torch.testing.assert_close(outputs[name], wanted, rtol=1e-4, atol=1e-4)


def test_any_model_of_timm(theirs, images, tmp_path):
    """Through `timm/`, whose network without biases is that of files whose biases are 0; and the same by short name."""
    bare = without_biases(theirs)
    save_file(to_meta(bare.state_dict(), bias=False), tmp_path / "weights.safetensors")
    for names in (TIMM, NAMES):
        outputs = create_backbone(names, tmp_path / "weights.safetensors")(images)
        assert isinstance(outputs, dict)
        for name, wanted in zip(names, outputs_of(bare, images).values(), strict=True):
            torch.testing.assert_close(outputs[name], wanted, rtol=1e-4, atol=1e-4)


def test_folder_of_transformers(theirs, images, tmp_path):
    theirs.save_pretrained(tmp_path / "folder")
    found = create_backbone("dinov3-s16-cls", tmp_path / "folder")(images)
    torch.testing.assert_close(found, outputs_of(theirs, images)["cls"], rtol=1e-4, atol=1e-4)


def test_sizes_follow_the_name(theirs, tmp_path):
    """Crops of 112 pixels at 112: positions are turned, so that no table has to be interpolated."""
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    images = torch.randn(1, 3, 112, 112, generator=torch.Generator().manual_seed(2))
    found = create_backbone("dinov3-s16-mean@112", tmp_path / "weights.safetensors")(images)
    torch.testing.assert_close(found, outputs_of(theirs, images)["mean"], rtol=1e-4, atol=1e-4)


def test_another_size_is_refused(theirs, tmp_path):
    assert get_spec("dinov3-b16-mean").shape == (768,) and get_spec("dinov3-l16-cls").shape == (1024,)
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    with pytest.raises(CheckpointError, match=r"does not fit dinov3-b16-mean.*dinov3-s16-mean"):
        create_backbone("dinov3-b16-mean", tmp_path / "weights.safetensors")
