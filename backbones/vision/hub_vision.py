"""Folders in which Hugging Face's transformers keeps an image network: ViT, DeiT, CLIP, SigLIP, DINOv2, DINOv3."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from abaw.backbones.registry import Built
from abaw.backbones.spec import IMAGENET_MEAN, IMAGENET_STD, BackboneSpec, ImageInput
from abaw.backbones.vision.timm_names import POOLED, TimmName, parse_name, show_size
from abaw.backbones.weights import check_numbers, file_sha256
from abaw.core.errors import CheckpointError, UsageError, first_line, some_of
from abaw.core.state_dicts import SHOWN_KEYS

# What transformers calls a network -> its class, and tokens before the patches beside registers.
KINDS = {
    "vit": ("ViTModel", 1),
    "deit": ("DeiTModel", 2),
    "clip": ("CLIPVisionModel", 1),
    "clip_vision_model": ("CLIPVisionModel", 1),
    "siglip": ("SiglipVisionModel", 0),
    "siglip_vision_model": ("SiglipVisionModel", 0),
    "dinov2": ("Dinov2Model", 1),
    "dinov2_with_registers": ("Dinov2WithRegistersModel", 1),
    "dinov3_vit": ("DINOv3ViTModel", 1),
}
RESIZE_THEMSELVES = ("dinov2", "dinov2_with_registers", "dinov3_vit")  # their position embeddings, to any input
UNUSED = ("pooler.", "embeddings.mask_token", "vision_model.pooler.")  # a layer of pretraining; a token of masks
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
VOLATILE = ("transformers_version", "_name_or_path")  # of a config: who wrote it, not what it says
BICUBIC = 3  # as Pillow numbers its filters
BILINEAR = 2
WEIGHTS = ("model.safetensors", "pytorch_model.bin")


class HubNetwork(nn.Module):
    """An image network of transformers.

    (n, 3, height, width) normalised -> `mean` of the patch tokens and `cls`, both after the final norm, and `pooled`:
    what SigLIP pools, the class token of the others.
    """

    def __init__(self, model: nn.Module, kind: str, other_size: bool) -> None:
        super().__init__()
        self.model = model
        config = cast(Any, model).config
        self.has_class = KINDS[kind][1] > 0
        self.n_first = KINDS[kind][1] + int(getattr(config, "num_register_tokens", 0) or 0)
        self.options = {"interpolate_pos_encoding": True} if other_size and kind not in RESIZE_THEMSELVES else {}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """All outputs of a batch."""
        found = self.model(pixel_values=images, **self.options)
        hidden = found.last_hidden_state
        if type(self.model).__name__ == "CLIPVisionModel":  # it norms nothing but the class token
            hidden = _last_norm(self.model)(hidden)
        outputs = {"mean": hidden[:, self.n_first :].mean(dim=1)}
        if self.has_class:
            return {**outputs, "cls": hidden[:, 0], POOLED: hidden[:, 0]}
        return {**outputs, POOLED: found.pooler_output}


def _last_norm(model: nn.Module) -> nn.Module:
    holder = getattr(model, "vision_model", model)  # of versions before 5
    return cast(nn.Module, holder.post_layernorm)


def is_of_transformers(config: Mapping[str, Any] | None) -> bool:
    """True for a config.json in the format of transformers."""
    return bool(config) and "model_type" in cast(Any, config) and "architecture" not in cast(Any, config)


def build_hub(specs: Sequence[BackboneSpec], folder: Path, config: Mapping[str, Any]) -> Built:
    """The network of a folder of transformers'.

    Args:
        specs: of `timm/local-dir`, as they are named.
        folder: with config.json and weights.
        config: what config.json says.

    Raises:
        CheckpointError: it is of a network that is not known here, its weights do not fit, or transformers is not there.
        UsageError: the network has no such output.
    """
    kind = str(config["model_type"])
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise CheckpointError(f"{folder} is of transformers' {kind}; image networks of it that are known are {known}.")
    asked = parse_name(specs[0].name)
    vision = config.get("vision_config", config)
    image, note = _image_input(folder, vision, asked)
    model, dropped = _load(folder, kind)
    network = HubNetwork(model, kind, image.height_width != _sides(vision.get("image_size", 224)))
    if "cls" in [spec.output for spec in specs] and not network.has_class:
        raise UsageError(f"{folder} is of {kind}, which has patch tokens but no class token. Use timm/local-dir-mean.")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    made = [
        replace(
            spec,
            shape=(int(cast(Any, model).config.hidden_size),),
            architecture=f"transformers {kind}",
            network=f"transformers/{kind}",
            image=image,
            parameters=parameters,
            options=(("img_size", show_size(asked.size)),) if asked.size else (),
        )
        for spec in specs
    ]
    left = f"Dropped {some_of(dropped, SHOWN_KEYS)} of {folder}." if dropped else ""
    return Built(network, made, tuple(filter(None, (left, note))), _sha256(folder, config))


def _load(folder: Path, kind: str) -> tuple[nn.Module, list[str]]:
    """The network with its weights, and the keys that were left out. Runs no code of the folder."""
    try:
        import transformers
    except ImportError as error:
        raise CheckpointError(
            f"{folder} is of transformers ({kind}), which is not installed. Install it with: "
            "pip install '.[audio]' in abaw's folder."
        ) from error
    transformers.utils.logging.disable_progress_bar()
    make = getattr(transformers, KINDS[kind][0])
    try:
        model, told = make.from_pretrained(folder, local_files_only=True, output_loading_info=True, dtype="float32")
    except Exception as error:  # of files, of configurations, of shapes: of many kinds
        raise CheckpointError(f"{folder} cannot be read as transformers' {kind} ({first_line(error)}).") from error
    missing = sorted(key for key in told["missing_keys"] if not key.startswith(UNUSED))
    if missing:
        raise CheckpointError(f"{folder} lacks weights of {kind}: {some_of(missing, SHOWN_KEYS)}.")
    check_numbers({key: value for key, value in model.state_dict().items() if not key.startswith(UNUSED)}, folder)
    return model, sorted(told["unexpected_keys"])


def _image_input(folder: Path, vision: Mapping[str, Any], asked: TimmName) -> tuple[ImageInput, str]:
    """The input that a folder states, and a sentence on what was assumed where it states none."""
    said, note = _processor(folder), ""
    own = _sides(vision.get("image_size", 224))
    if said is None:
        said = {}
        note = f"{folder} has no {PREPROCESSOR}: {own[0]}x{own[1]} pixels, ImageNet's mean and deviation were assumed."
    factor = said.get("rescale_factor", 1 / 255) if said.get("do_rescale", True) else 1
    if not math.isclose(factor, 1 / 255, rel_tol=1e-3):
        raise CheckpointError(f"{folder} scales pixels by {factor:g}, not by 1/255, which is not done here.")
    normal = said.get("do_normalize", True)
    mean = tuple(said.get("image_mean") or IMAGENET_MEAN) if normal else (0.0, 0.0, 0.0)
    std = tuple(said.get("image_std") or IMAGENET_STD) if normal else (1.0, 1.0, 1.0)
    resized = said.get("size") or {}
    cut = said.get("crop_size") if said.get("do_center_crop") else None
    size = asked.size or _sides(cut or resized, own)
    shortest = resized.get("shortest_edge") if isinstance(resized, Mapping) else resized
    side = size[0] if size[0] == size[1] else size
    mode = "bilinear" if said.get("resample", BICUBIC) == BILINEAR else "bicubic"
    image = ImageInput(side, mean, std, mode)  # type: ignore[arg-type]
    if asked.center and cut and shortest:
        image = replace(image, crop="center", crop_pct=min(_sides(cut, own)[0] / shortest, 1.0))
    return image, note


def _processor(folder: Path) -> Mapping[str, Any] | None:
    """What a folder says of images; transformers 5 may have it inside of another file."""
    for name in (PROCESSOR, PREPROCESSOR):
        if (folder / name).is_file():
            try:
                found = json.loads((folder / name).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{folder / name} cannot be read ({first_line(error)}).") from error
            found = found.get("image_processor", found if name == PREPROCESSOR else None)
            if isinstance(found, Mapping):
                return found
    return None


def _sides(said: Any, otherwise: tuple[int, int] = (224, 224)) -> tuple[int, int]:
    """Height and width, from a number, a pair, or what a processor's config says."""
    if isinstance(said, Mapping):
        if "height" in said:
            return int(said["height"]), int(said["width"])
        said = said.get("shortest_edge", otherwise)
    return (said, said) if isinstance(said, int) else (int(said[0]), int(said[1]))


def _sha256(folder: Path, config: Mapping[str, Any]) -> str:
    """sha256 over the weights and what fixes the network beside them."""
    files = sorted(file for pattern in ("*.safetensors", "*.bin") for file in folder.glob(pattern))
    first = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    parts = "+".join(file_sha256(file) for file in ([first] if first else files))
    text = json.dumps({key: value for key, value in config.items() if key not in VOLATILE}, sort_keys=True)
    return hashlib.sha256(f"{parts} {text}".encode()).hexdigest()
