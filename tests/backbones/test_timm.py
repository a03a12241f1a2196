"""Networks of timm: the right activation, the authors' own checkpoints, tokens, sizes, crops, folders and names."""

import json
import re
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from abaw.backbones.backbone import create_backbone
from abaw.backbones.published import find_weights
from abaw.backbones.registry import get_spec, list_families
from abaw.backbones.spec import ImageInput
from abaw.backbones.vision.preprocess import prepare_images
from abaw.backbones.vision.timm_arguments import check_model
from abaw.backbones.vision.timm_models import TimmNetwork
from abaw.backbones.vision.timm_names import names_behind
from abaw.backbones.vision.timm_sketch import find_tokens
from abaw.backbones.weights import file_sha256
from abaw.core.errors import CheckpointError, UsageError
from abaw.extract.request import Request
from abaw.tests.support.paths import DATA

FACES = DATA / "faces"
SMALL_VIT = "timm/test_vit"  # 160 pixels, patches of 16, 64-d
GREY_LEVELS = 2  # of 255, the difference that is allowed
MEAN_LEVELS = 0.2
RARE = 0.001


def randomised(model: torch.nn.Module) -> dict[str, Tensor]:
    """A state dict whose tokens, norms and biases matter."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return {key: value.clone() for key, value in model.state_dict().items()}


def images_of(size: tuple[int, int], n: int = 2) -> Tensor:
    return torch.randn(n, 3, *size, generator=torch.Generator().manual_seed(2))


# --- activation --------------------------------------------------------------------------------------------------------


def natively_quickgelu() -> list[str]:
    names = [name for name in timm.list_pretrained() if "quickgelu" not in name]
    return [name for name in names if any("QuickGELU" in note for note in timm.get_pretrained_cfg(name).notes or ())]


def test_weights_that_were_trained_with_quickgelu_are_computed_with_it():
    names = natively_quickgelu()
    assert len(names) >= 17 and "vit_base_patch16_clip_224.openai" in names
    for name in names:
        quick = check_model(name)
        model, _, tag = quick.partition(".")
        assert "quickgelu" in model and name.endswith(f".{tag}")
        ours, theirs = timm.get_pretrained_cfg(quick), timm.get_pretrained_cfg(name)
        assert ours.hf_hub_id == theirs.hf_hub_id, "the same weights"
    assert check_model("vit_base_patch16_clip_224.laion2b") == "vit_base_patch16_clip_224.laion2b"
    assert get_spec("clip-l14").network == "timm/vit_large_patch14_clip_quickgelu_224.openai"
    spec = get_spec("timm/vit_base_patch32_clip_224.openai-cls")
    assert spec.network == "timm/vit_base_patch32_clip_quickgelu_224.openai" and spec.shape == (768,)
    with torch.device("meta"):
        backbone = create_backbone("timm/vit_base_patch32_clip_224.openai", untrained=True, device="meta")
    assert type(backbone._network.model.blocks[0].mlp.act).__name__ == "QuickGELU"
    assert "trained with QuickGELU: vit_base_patch32_clip_quickgelu_224.openai is computed" in " ".join(backbone.notes)


def test_clip_is_that_of_transformers():
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPVisionConfig(
        hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, patch_size=8, image_size=32
    )
    theirs = transformers.CLIPVisionModel(config).eval()
    tensors = {key.removeprefix("vision_model."): value for key, value in randomised(theirs).items()}
    size = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
    model = timm.create_model("vit_large_patch14_clip_quickgelu_224.openai", num_classes=0, **size).eval()
    model.load_state_dict(clip_of_timm(tensors))
    network = TimmNetwork(model, ("pooled", "cls", "mean"))
    images = images_of((32, 32)) * 3
    with torch.no_grad():
        wanted, found = theirs(pixel_values=images), network(images)
    assert torch.allclose(found["pooled"], wanted.pooler_output, atol=1e-5), "class token after the last norm"
    assert torch.equal(found["pooled"], found["cls"])
    gelu = timm.create_model("vit_large_patch14_clip_224.openai", num_classes=0, **size).eval()
    gelu.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert not torch.allclose(gelu(images), wanted.pooler_output, atol=1e-3), (
            "another activation is another network"
        )


def clip_of_timm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A CLIP image tower of transformers under timm's names."""
    found = {
        "cls_token": tensors["embeddings.class_embedding"][None, None],
        "pos_embed": tensors["embeddings.position_embedding.weight"][None],
        "patch_embed.proj.weight": tensors["embeddings.patch_embedding.weight"],
    }
    for kind in ("weight", "bias"):
        found[f"norm_pre.{kind}"] = tensors[f"pre_layrnorm.{kind}"]
        found[f"norm.{kind}"] = tensors[f"post_layernorm.{kind}"]
        for i in range(2):
            layer, block = f"encoder.layers.{i}.", f"blocks.{i}."
            qkv = [tensors[f"{layer}self_attn.{part}_proj.{kind}"] for part in "qkv"]
            found[f"{block}attn.qkv.{kind}"] = torch.cat(qkv)
            found[f"{block}attn.proj.{kind}"] = tensors[f"{layer}self_attn.out_proj.{kind}"]
            for n in "12":
                found[f"{block}norm{n}.{kind}"] = tensors[f"{layer}layer_norm{n}.{kind}"]
                found[f"{block}mlp.fc{n}.{kind}"] = tensors[f"{layer}mlp.fc{n}.{kind}"]
    return found


# --- checkpoints of authors ----------------------------------------------------------------------------------------------


def meta_convnext(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for key, value in state.items():
        key = re.sub(r"^stem\.", "downsample_layers.0.", key)
        key = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", key)
        key = re.sub(r"^stages\.(\d)\.blocks\.(\d+)\.", r"stages.\1.\2.", key)
        key = key.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
        found[key.replace("head.norm", "norm").replace("head.fc", "head")] = value
    return found


def microsoft_swin(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for key, value in state.items():
        stage = re.match(r"layers\.(\d)\.downsample(.*)", key)
        key = f"layers.{int(stage[1]) - 1}.downsample{stage[2]}" if stage else key
        found[key.replace("head.fc", "head")] = value
        if key.endswith("relative_position_bias_table"):
            found[key.replace("bias_table", "index")] = torch.zeros(49, 49, dtype=torch.long)
    return found


def dinov2_registers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    found = {key: value for key, value in state.items() if key not in ("reg_token", "pos_embed")}
    first = torch.full_like(state["cls_token"], 0.25)
    found |= {"register_tokens": state["reg_token"], "mask_token": torch.zeros(1, state["pos_embed"].shape[2])}
    return found | {"pos_embed": torch.cat([first, state["pos_embed"]], 1)}


def openai_clip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    names = {
        "blocks.": "transformer.resblocks.",
        "attn.qkv.": "attn.in_proj_",
        "attn.proj.": "attn.out_proj.",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
        "norm_pre": "ln_pre",
        "norm1": "ln_1",
        "norm2": "ln_2",
        "patch_embed.proj": "conv1",
    }
    found = {"text_projection": torch.zeros(4, 4), "visual.proj": torch.zeros(24, 12), "logit_scale": torch.ones(())}
    for key, value in state.items():
        for mine, theirs in names.items():
            key = key.replace(mine, theirs)
        if key.startswith("norm."):
            key = key.replace("norm.", "ln_post.")
        key, value = {
            "cls_token": ("class_embedding", value.flatten()),
            "pos_embed": ("positional_embedding", value[0]),
        }.get(key, (key, value))
        if not key.startswith("head"):
            found[f"visual.{key}"] = value
    return found


SMALL = {
    "convnext_atto": {"dims": [8, 16, 24, 32], "depths": [1, 1, 2, 1]},
    "swin_tiny_patch4_window7_224": {"embed_dim": 12, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 3, 4]},
    "vit_small_patch14_reg4_dinov2": {"embed_dim": 24, "depth": 2, "num_heads": 2},
    "vit_base_patch32_clip_quickgelu_224": {"embed_dim": 24, "depth": 2, "num_heads": 2},
}


@pytest.mark.parametrize(
    ("model", "as_published", "container", "prefix"),
    [
        ("convnext_atto", meta_convnext, "model", ""),
        ("convnext_atto", meta_convnext, "", "module."),
        ("swin_tiny_patch4_window7_224", microsoft_swin, "model", ""),
        ("vit_small_patch14_reg4_dinov2", dinov2_registers, "", ""),
        ("vit_small_patch14_reg4_dinov2", dinov2_registers, "", "module.backbone."),
        ("vit_base_patch32_clip_quickgelu_224", openai_clip, "state_dict", ""),
    ],
)
def test_checkpoints_of_authors_are_read_as_timm_reads_them(model, as_published, container, prefix, tmp_path):
    state = as_published(randomised(timm.create_model(model, **SMALL[model])))
    plain = tmp_path / "plain.pth"
    torch.save(state, plain)
    wanted = timm.create_model(
        model, pretrained=True, num_classes=0, pretrained_cfg_overlay={"file": str(plain)}, **SMALL[model]
    ).state_dict()
    folder = tmp_path / "folder"
    write_config(folder, model, SMALL[model])
    wrapped = {prefix + key: value for key, value in state.items()}
    torch.save({container: wrapped, "epoch": 3} if container else wrapped, folder / "published.pth")

    backbone = create_backbone(f"timm/{model}", folder)

    found = backbone._network.model.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[key], value) for key, value in wanted.items())
    told = " ".join(backbone.notes)
    assert f"timm converted the keys of {folder / 'published.pth'} to its own layout." in told
    assert "Dropped" in told, "the head is said to be left out"


def write_config(folder: Path, model: str, arguments: dict[str, object], **more: object) -> None:
    folder.mkdir()
    cfg = {key: value for key, value in timm.get_pretrained_cfg(model).to_dict().items() if key != "url"}
    config = {"architecture": model, "pretrained_cfg": {**cfg, **more}, "model_args": arguments}
    (folder / "config.json").write_text(json.dumps(config))


def test_positions_are_resampled_as_timm_does(tmp_path):
    state = randomised(timm.create_model("test_vit"))
    file = tmp_path / "vit.safetensors"
    save_file(state, file)
    backbone = create_backbone(f"{SMALL_VIT}@96x128-mean", file)
    overlay = {"file": str(file)}
    wanted = timm.create_model(
        "test_vit", pretrained=True, num_classes=0, img_size=(96, 128), pretrained_cfg_overlay=overlay
    )
    found = backbone._network.model.state_dict()
    assert found["pos_embed"].shape == (1, 1 + 6 * 8, 64)
    assert all(torch.equal(found[key], value) for key, value in wanted.state_dict().items())
    assert "Position embeddings of 10x10 patches were interpolated to 48" in " ".join(backbone.notes)


def test_numpy_archives_of_google(tmp_path):
    state = randomised(timm.create_model("vit_tiny_patch16_224", num_classes=0))
    file = tmp_path / "Ti_16.npz"
    np.savez(file, **as_jax(state, 12, 3))
    found = create_backbone("timm/vit_tiny_patch16_224", file)._network.model.state_dict()
    assert all(torch.allclose(found[key], value) for key, value in state.items())
    wrong = as_jax(state, 12, 3)
    del wrong["Transformer/encoder_norm/scale"]
    np.savez(file, **wrong)
    with pytest.raises(CheckpointError, match="does not fit timm/vit_tiny_patch16_224"):
        create_backbone("timm/vit_tiny_patch16_224", file)
    with pytest.raises(CheckpointError, match=r"timm reads no \.npz file of timm/test_convnext"):
        create_backbone("timm/test_convnext", file)


def as_jax(state: dict[str, Tensor], depth: int, heads: int) -> dict[str, np.ndarray]:
    """A ViT as Google's Flax code saves it."""
    found = {
        "embedding/kernel": state["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": state["patch_embed.proj.bias"],
        "cls": state["cls_token"],
        "Transformer/posembed_input/pos_embedding": state["pos_embed"],
        "Transformer/encoder_norm/scale": state["norm.weight"],
        "Transformer/encoder_norm/bias": state["norm.bias"],
    }
    for i in range(depth):
        block, mine = f"Transformer/encoderblock_{i}/", f"blocks.{i}."
        attention = f"{block}MultiHeadDotProductAttention_1/"
        for number, layer in (("0", "norm1"), ("2", "norm2")):
            found[f"{block}LayerNorm_{number}/scale"] = state[f"{mine}{layer}.weight"]
            found[f"{block}LayerNorm_{number}/bias"] = state[f"{mine}{layer}.bias"]
        for part, weight, bias in zip(
            ("query", "key", "value"),
            state[f"{mine}attn.qkv.weight"].chunk(3),
            state[f"{mine}attn.qkv.bias"].chunk(3),
            strict=True,
        ):
            found[f"{attention}{part}/kernel"] = weight.T.unflatten(1, (heads, -1))
            found[f"{attention}{part}/bias"] = bias.unflatten(0, (heads, -1))
        found[f"{attention}out/kernel"] = state[f"{mine}attn.proj.weight"].T.unflatten(0, (heads, -1))
        found[f"{attention}out/bias"] = state[f"{mine}attn.proj.bias"]
        for n in "01":
            found[f"{block}MlpBlock_3/Dense_{n}/kernel"] = state[f"{mine}mlp.fc{int(n) + 1}.weight"].T
            found[f"{block}MlpBlock_3/Dense_{n}/bias"] = state[f"{mine}mlp.fc{int(n) + 1}.bias"]
    return {key: value.numpy() for key, value in found.items()}


# --- tokens ------------------------------------------------------------------------------------------------------------

TINY = {"embed_dim": 24, "depth": 2, "num_heads": 2, "img_size": 64}
# model, arguments that make it small, tokens before the patches, whether the first one is a class token
TOKENS = [
    ("vit_base_patch16_siglip_224", TINY, 0, False),
    ("vit_medium_patch16_reg4_gap_256", TINY, 4, False),
    ("vit_small_patch14_reg4_dinov2", {**TINY, "img_size": 56}, 5, True),
    ("deit_tiny_distilled_patch16_224", TINY, 2, True),
    ("beit_base_patch16_224", TINY, 1, True),
    ("eva02_tiny_patch14_224", {**TINY, "img_size": 56}, 1, True),
    ("vit_small_patch16_dinov3", TINY, 5, True),
    ("vit_relpos_small_patch16_224", TINY, 0, False),
    ("vit_relpos_base_patch16_clsgap_224", TINY, 1, True),
    ("cait_xxs24_224", {**TINY, "depth_token_only": 1}, 1, True),
    ("convit_tiny", {**TINY, "embed_dim": 8, "local_up_to_layer": 1}, 1, True),
    ("xcit_nano_12_p8_224", {**TINY, "cls_attn_layers": 1}, 1, True),
    (
        "tnt_s_patch16_224",
        {"embed_dim": 24, "inner_dim": 8, "depth": 2, "num_heads_outer": 2, "num_heads_inner": 2, "img_size": 64},
        1,
        True,
    ),
    ("coat_lite_tiny", {"embed_dims": [8, 16, 16, 24], "img_size": 64}, 1, True),
    ("naflexvit_base_patch16_gap", {"embed_dim": 24, "depth": 2, "num_heads": 2}, None, False),
    ("mixer_s32_224", {"img_size": 64}, 0, False),
]


@pytest.mark.parametrize(("model", "arguments", "n_first", "has_class"), TOKENS, ids=lambda value: str(value)[:32])
def test_tokens_are_those_of_a_plain_computation(model, arguments, n_first, has_class):
    torch.manual_seed(0)
    network = timm.create_model(model, num_classes=0, **arguments).eval()
    randomised(network)
    side = arguments.get("img_size", 64)
    images = images_of((side, side))
    with torch.no_grad():
        hidden = network.forward_features(images)
        tokens = find_tokens(network, hidden)
        assert tokens is not None and tokens.has_class == has_class
        n_first = network.num_prefix_tokens if n_first is None else n_first
        assert tokens.n_first == n_first and tokens.n_patches == hidden.shape[1] - n_first
        found = TimmNetwork(network, ("mean", "cls", "pooled"))(images)
        for row in range(2):
            mean = torch.stack(list(hidden[row, n_first:])).mean(0)
            if isinstance(getattr(network, "norm", None), torch.nn.Identity) and hasattr(network, "fc_norm"):
                mean = network.fc_norm(mean)
            assert torch.allclose(found["mean"][row], mean, atol=1e-5)
            assert torch.equal(found["cls"][row], hidden[row, 0])
        assert torch.allclose(found["pooled"], network(images), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "timm/vit_base_patch16_siglip_224-cls",
            "has patch tokens but no class token. Use timm/vit_base_patch16_siglip_224-mean",
        ),
        ("timm/vit_medium_patch16_reg4_gap_256-cls", "has patch tokens but no class token"),
        ("timm/pit_ti_224-mean", "gives its class token alone, without patch tokens. Use timm/pit_ti_224-cls"),
        ("timm/crossvit_tiny_240-mean", "ends in several rows of tokens .* Use timm/crossvit_tiny_240 for its pooled"),
        ("timm/resnet18-mean", "ends in a map of features, not in one row of tokens. Use timm/resnet18 for its pooled"),
        ("timm/test_vit.nonsense", "no weights 'nonsense' of test_vit. There are test_vit.r160_in1k"),
        ("timm/test_vitt", "no model 'test_vitt'. Did you mean test_vit"),
        ("timm/test_vit@100", "patches of 16x16 pixels, which do not fill an image of 100x100. Take @96 or @112"),
        ("timm/test_vit@96@112", "gives a size twice"),
        ("timm/test_vit@big", "contains @big, which has no meaning here"),
        ("timm/test_vit+squash", r"contains \+squash"),
        ("dan@112", "dan has a fixed input"),
        ("wav2vec2@112", "wav2vec2 has a fixed input"),
    ],
)
def test_names_that_ask_for_what_is_not_there(name, words):
    with pytest.raises(UsageError, match=words):
        get_spec(name)


# --- sizes and crops -----------------------------------------------------------------------------------------------------


def test_sizes_are_options_of_the_name():
    spec = get_spec("timm/vit_small_patch14_dinov2@224x140-mean")
    assert spec.image is not None and spec.image.size == (224, 140) and spec.image.height_width == (224, 140)
    assert spec.options == (("img_size", "224x140"),) and spec.network == "timm/vit_small_patch14_dinov2"
    assert get_spec("timm/vit_small_patch14_dinov2-mean@224x140").options == spec.options
    plain = get_spec("timm/vit_small_patch14_dinov2")
    assert plain.image is not None and plain.image.size == 518 and plain.options == ()
    assert get_spec("timm/vit_small_patch14_dinov2@518").fingerprint("a") == plain.fingerprint("a")
    family = get_spec("vit-tiny-cls@112")
    assert (family.family, family.options, family.shape) == ("vit-tiny", (("img_size", 112),), (192,))
    assert family.image is not None and family.image.size == 112
    assert family.fingerprint("a") != get_spec("vit-tiny-cls").fingerprint("a")
    uneven = get_spec(
        "timm/vit_so400m_patch14_siglip_384"
    ).image  # 27.4 patches of 14 pixels: timm's own size is timm's
    assert uneven is not None and uneven.size == 384
    tall = get_spec("timm/vit_base_patch16_sapiens2").image
    assert tall is not None and tall.size == (1024, 768)
    assert Request.parse("timm/test_vit@96x128+center-mean").feature == "timm-test_vit-96x128-center-mean"
    assert Request.parse("vit-tiny-mean@112").feature == "vit-tiny-mean-112"


def test_other_sizes_are_computed_as_timm_computes_them():
    backbone = create_backbone((f"{SMALL_VIT}@96x128", f"{SMALL_VIT}@96x128-mean"), untrained=True)
    faces = read_face("talking_face_112")[None]
    inputs = backbone.preprocess(faces)
    assert inputs.shape == (1, 3, 96, 128)
    model = timm.create_model("test_vit", num_classes=0, img_size=(96, 128)).eval()
    model.load_state_dict(backbone._network.model.state_dict())
    with torch.no_grad():
        wanted = model(inputs)
    found = backbone(inputs)
    assert isinstance(found, dict)
    assert torch.allclose(found[f"{SMALL_VIT}@96x128"], wanted, atol=1e-6)
    convolutions = create_backbone("timm/test_resnet@96x128", untrained=True)  # takes any size
    assert convolutions(convolutions.preprocess(faces)).shape == (1, *convolutions.spec.shape)


def read_face(name: str) -> Tensor:
    return torch.from_numpy(np.array(Image.open(FACES / f"{name}.jpg").convert("RGB")))


NAMES = ("vit-mean", "vit-tiny-cls", "resnet50", "swin-t", "clip-l14", "timm/vit_small_patch14_dinov2@224")


@pytest.mark.parametrize("name", [*NAMES, *(f"{name}+center" for name in NAMES), "timm/dm_nfnet_f0+center"])
@pytest.mark.parametrize("face", ["single_face_112", "talking_face_346", "cut"])
def test_input_is_what_the_name_claims(name, face):
    """The whole crop resized to the input, or timm's own transform, as Pillow makes them."""
    spec = get_spec(name)
    assert spec.image is not None
    pixels = read_face("talking_face_346")[:280, 20:200] if face == "cut" else read_face(face)
    config = timm.data.resolve_data_config(pretrained_cfg=timm.get_pretrained_cfg(spec.network[5:]).to_dict())
    config["input_size"] = (3, *spec.image.height_width)
    if name.endswith("+center"):
        assert spec.image.crop == config["crop_mode"] and spec.image.crop_pct == config["crop_pct"]
        transform = timm.data.create_transform(**config, is_training=False)
    else:
        assert spec.image.crop == "resize"
        transform = timm.data.create_transform(**{**config, "crop_mode": "squash", "crop_pct": 1.0}, is_training=False)
    agrees(pixels, spec.image, transform)


@pytest.mark.parametrize("mode", ["center", "squash", "border"])
@pytest.mark.parametrize("size", [(64, 64), (96, 64), (80, 112)])
@pytest.mark.parametrize("crop_pct", [0.8, 0.9, 1.0])
def test_every_crop_of_timm(mode, size, crop_pct):
    config = {"input_size": (3, *size), "crop_mode": mode, "crop_pct": crop_pct, "interpolation": "bicubic"}
    normal = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.25)}
    transform = timm.data.create_transform(**config, **normal, is_training=False)
    image = ImageInput(size, normal["mean"], normal["std"], "bicubic", mode, crop_pct)
    for pixels in (read_face("single_face_112"), read_face("talking_face_346")[:200, 20:180]):
        agrees(pixels, image, transform)


def agrees(pixels: Tensor, image: ImageInput, transform: "object") -> None:
    wanted = transform(Image.fromarray(pixels.numpy()))  # type: ignore[operator]
    found = prepare_images(pixels[None], image)[0]
    assert found.shape == wanted.shape
    std = torch.tensor(image.std).view(3, 1, 1)
    levels = ((found - wanted) * std).abs() * 255
    assert levels.mean() < MEAN_LEVELS
    assert (levels > GREY_LEVELS + 0.01).float().mean() < RARE, "torch and Pillow round between rows and columns"


# --- folders and the hub -------------------------------------------------------------------------------------------------


def test_folders_of_timm(tmp_path):
    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=5, img_size=96, global_pool="avg", class_token=True).eval()
    state = randomised(model)
    folder = tmp_path / "mine"
    write_config(
        folder, "test_vit", {"img_size": 96, "global_pool": "avg"}, mean=[0.1, 0.2, 0.3], input_size=[3, 96, 96]
    )
    save_file(state, folder / "model.safetensors")
    images = images_of((96, 96))
    with torch.no_grad():
        hidden = model.forward_features(images)
        wanted = model.forward_head(hidden, pre_logits=True)
    for name in ("timm/local-dir", "timm/test_vit"):
        backbone = create_backbone((name, f"{name}-mean"), folder)
        found = backbone(images)
        assert isinstance(found, dict)
        assert torch.allclose(found[name], wanted, atol=1e-5)
        assert torch.allclose(found[f"{name}-mean"], model.fc_norm(hidden[:, 1:].mean(1)), atol=1e-5)
        spec = backbone.spec
        assert spec.network == "timm/test_vit" and spec.shape == (64,) and spec.name == name
        assert dict(spec.options) == {"img_size": 96, "global_pool": "avg"}
        assert spec.image is not None and spec.image.size == 96 and spec.image.mean == (0.1, 0.2, 0.3)
    with pytest.raises(CheckpointError, match=r"contains test_vit, not test_resnet\. Use timm/test_vit:"):
        create_backbone("timm/test_resnet", folder)
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"has no config.json, so its network is unknown"):
        create_backbone("timm/local-dir", folder)
    (folder / "model.safetensors").unlink()
    save_file(randomised(timm.create_model("test_vit")), folder / "weights.safetensors")
    notes = " ".join(create_backbone("timm/test_vit", folder).notes)
    assert "has no config.json: 160x160 pixels, mean 0.5/0.5/0.5" in notes
    (folder / "weights.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"has no weights such as model.safetensors; it holds no files"):
        create_backbone("timm/test_vit", folder)


def test_folders_that_timm_saved_itself(tmp_path):
    model = timm.create_model("test_convnext", num_classes=3)
    randomised(model)
    timm.models._hub.save_for_hf(model, tmp_path / "saved")
    backbone = create_backbone("timm/local-dir", tmp_path / "saved")
    images = images_of(backbone.spec.image.height_width)
    with torch.no_grad():
        wanted = model.eval().forward_head(model.forward_features(images), pre_logits=True)
    assert torch.allclose(backbone(images), wanted, atol=1e-5)
    assert backbone.spec.options == (), "what is usual is no option"


def test_names_with_a_colon():
    with pytest.raises(UsageError, match="timm/local-dir needs a folder"):
        create_backbone("timm/local-dir", untrained=True)
    request = Request.parse("timm/local-dir-mean:there")
    assert (request.feature, request.weights, request.spec.output) == ("timm-local-dir-mean", Path("there"), "mean")
    with pytest.raises((CheckpointError, UsageError), match="hf-hub:no-such-owner/resnet18"):
        Request.parse("x=timm/hf-hub:no-such-owner/resnet18:file.pth")
    with pytest.raises(UsageError, match="hub has no public model 'resnet18 of mine'"):
        Request.parse("timm/hf-hub:resnet18 of mine")


HUB_SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.mark.parametrize(
    ("config_name", "model_name", "n_first"),
    [
        ("ViTConfig", "ViTForImageClassification", 1),
        ("CLIPVisionConfig", "CLIPVisionModel", 1),
        ("SiglipVisionConfig", "SiglipVisionModel", 0),
        ("Dinov2Config", "Dinov2Model", 1),
    ],
)
def test_image_folders_of_transformers(config_name, model_name, n_first, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = getattr(transformers, config_name)(**HUB_SIZES, image_size=32, patch_size=8)
    model = getattr(transformers, model_name)(config).eval()
    randomised(model)
    model.save_pretrained(tmp_path)
    processor = {"image_mean": [0.1, 0.2, 0.3], "size": {"shortest_edge": 40}, "resample": 2}
    crop = {"do_center_crop": True, "crop_size": {"height": 32, "width": 32}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor | crop))
    names = ["timm/local-dir", "timm/local-dir-mean", *(["timm/local-dir-cls"] if n_first else [])]
    backbone = create_backbone(names, tmp_path)
    images = images_of((32, 32))
    found = backbone(images)
    base = getattr(model, model.base_model_prefix, model)
    with torch.no_grad():
        wanted = base(images)
        hidden = wanted.last_hidden_state
        pooled = hidden[:, 0] if model_name == "ViTForImageClassification" else wanted.pooler_output
        if model_name == "CLIPVisionModel":
            hidden = getattr(model, "vision_model", model).post_layernorm(hidden)
    assert isinstance(found, dict)
    assert torch.allclose(found["timm/local-dir"], pooled, atol=1e-5)
    assert torch.allclose(found["timm/local-dir-mean"], hidden[:, n_first:].mean(1), atol=1e-5)
    assert backbone.spec.shape == (32,)
    image = backbone.spec.image
    assert image == ImageInput(32, (0.1, 0.2, 0.3), (0.229, 0.224, 0.225), "bilinear")
    center = create_backbone("timm/local-dir+center", tmp_path).spec.image
    assert center is not None and (center.crop, center.crop_pct) == ("center", 0.8)
    if n_first == 0:
        with pytest.raises(UsageError, match="has patch tokens but no class token"):
            create_backbone("timm/local-dir-cls", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    larger = create_backbone("timm/local-dir@48-mean", tmp_path)
    assert "ImageNet's mean and deviation were assumed" in " ".join(larger.notes)
    assert larger(images_of((48, 48))).shape == (2, 32) and larger.spec.options == (("img_size", 48),)
    with pytest.raises(CheckpointError, match=r"is of transformers .*, not of timm\. Use timm/local-dir:"):
        create_backbone("timm/test_vit", tmp_path)


@pytest.mark.parametrize("name", ["timm/test_vit@96x128+center-mean", "vit-tiny-mean@112", "timm/resnet18", "vit-cls"])
def test_the_name_of_a_feature_tells_its_backbone(name):
    feature = Request.parse(name).feature
    assert "@" not in feature and "+" not in feature and "/" not in feature
    specs = [get_spec(known) for known in names_behind(feature) if is_known(known)]
    assert specs[0] == replace(get_spec(name), name=specs[0].name)


def is_known(name: str) -> bool:
    try:
        return bool(get_spec(name))
    except UsageError:
        return False


def test_models_of_the_hub_come_from_its_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model = timm.create_model("test_vit", num_classes=3).eval()
    repository = tmp_path / "models--someone--faces"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots").mkdir()
    write_config(repository / "snapshots" / "abc", "test_vit", {}, mean=[0.1, 0.1, 0.1])
    torch.save(randomised(model), repository / "snapshots" / "abc" / "pytorch_model.bin")
    backbone = create_backbone(("timm/hf-hub:someone/faces-mean", "timm/hf-hub:someone/faces"))
    assert backbone.weights_sha256 == file_sha256(repository / "snapshots" / "abc" / "pytorch_model.bin")
    images = images_of((160, 160))
    found = backbone(images)
    assert isinstance(found, dict)
    with torch.no_grad():
        hidden = model.forward_features(images)
    assert torch.allclose(found["timm/hf-hub:someone/faces-mean"], hidden[:, 1:].mean(1), atol=1e-5)
    image = backbone.spec.image
    assert image is not None and image.mean == (0.1, 0.1, 0.1) and backbone.spec.network == "timm/test_vit"
    request = Request.parse("timm/hf-hub:someone/faces@96:file.pth")
    assert (request.feature, request.weights) == ("timm-hf-hub-someone-faces-96", Path("file.pth"))


def test_repositories_of_weights_are_those_that_timm_names():
    """They are written down, so that `abaw list backbones` does not load timm."""
    specs = [family.specs[0] for family in list_families() if family.specs and family.specs[0].weights == "timm"]
    assert len(specs) >= 8
    for spec in specs:
        (source,) = find_weights(spec.name).sources
        config = timm.get_pretrained_cfg(spec.network.removeprefix("timm/"), allow_unregistered=True)
        assert (source.hub, source.name) == (config.hf_hub_id, config.hf_hub_filename or "model.safetensors")
