"""Folders of image networks of Hugging Face's transformers: ViT, DeiT, CLIP, SigLIP, DINOv2, DINOv3."""

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
from abaw.core.json_files import read_json
from abaw.core.state_dicts import SHOWN_KEYS

# transformers' name of a network -> its class, and the number of tokens before the patches without registers.
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
RESIZE_THEMSELVES = ("dinov2", "dinov2_with_registers", "dinov3_vit")  # their position embeddings, for any input
UNUSED = ("pooler.", "embeddings.mask_token", "vision_model.pooler.")  # used in pretraining only
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
VOLATILE = ("transformers_version", "_name_or_path")  # keys of a config that do not affect the network
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
        result = self.model(pixel_values=images, **self.options)
        hidden = result.last_hidden_state
        if type(self.model).__name__ == "CLIPVisionModel":  # it norms only the class token
            hidden = _last_norm(self.model)(hidden)
        outputs = {"mean": hidden[:, self.n_first :].mean(dim=1)}
        if self.has_class:
            return {**outputs, "cls": hidden[:, 0], POOLED: hidden[:, 0]}
        return {**outputs, POOLED: result.pooler_output}


def _last_norm(model: nn.Module) -> nn.Module:
    holder = getattr(model, "vision_model", model)  # of versions before 5
    return cast(nn.Module, holder.post_layernorm)


def is_of_transformers(config: Mapping[str, Any] | None) -> bool:
    """True for a config.json in the format of transformers."""
    return bool(config) and "model_type" in cast(Any, config) and "architecture" not in cast(Any, config)


def build_hub(specs: Sequence[BackboneSpec], folder: Path, config: Mapping[str, Any]) -> Built:
    """The network of a folder of transformers.

    Args:
        specs: of `timm/local-dir`.
        folder: with config.json and weights.
        config: the content of config.json.

    Raises:
        CheckpointError: an unknown network, weights that do not fit, or transformers is not installed.
        UsageError: the network has no such output.
    """
    kind = str(config["model_type"])
    if kind not in KINDS:
        known = ", ".join(KINDS)
        raise CheckpointError(f"{folder} is a {kind} of transformers; known image networks are {known}.")
    requested = parse_name(specs[0].name)
    vision = config.get("vision_config", config)
    image, note = _image_input(folder, vision, requested)
    model, dropped = _load(folder, kind)
    network = HubNetwork(model, kind, image.height_width != _sides(vision.get("image_size", 224)))
    if "cls" in [spec.output for spec in specs] and not network.has_class:
        raise UsageError(f"{folder} is of {kind}, which has patch tokens but no class token. Use timm/local-dir-mean.")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    loaded = [
        replace(
            spec,
            shape=(int(cast(Any, model).config.hidden_size),),
            architecture=f"transformers {kind}",
            network=f"transformers/{kind}",
            image=image,
            parameters=parameters,
            options=(("img_size", show_size(requested.size)),) if requested.size else (),
        )
        for spec in specs
    ]
    drop_note = f"Dropped {some_of(dropped, SHOWN_KEYS)} of {folder}." if dropped else ""
    return Built(network, loaded, tuple(filter(None, (drop_note, note))), _sha256(folder, config))


def _load(folder: Path, kind: str) -> tuple[nn.Module, list[str]]:
    """The network with its weights, and the keys that were dropped. Runs no code of the folder."""
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
        model, report = make.from_pretrained(folder, local_files_only=True, output_loading_info=True, dtype="float32")
    except Exception as error:  # of files, configurations and shapes
        raise CheckpointError(f"{folder} cannot be read as transformers' {kind} ({first_line(error)}).") from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(UNUSED))
    if missing:
        raise CheckpointError(f"{folder} lacks weights of {kind}: {some_of(missing, SHOWN_KEYS)}.")
    check_numbers({key: value for key, value in model.state_dict().items() if not key.startswith(UNUSED)}, folder)
    return model, sorted(report["unexpected_keys"])


def _image_input(folder: Path, vision: Mapping[str, Any], requested: TimmName) -> tuple[ImageInput, str]:
    """The input that a folder states, and a sentence on what was assumed if it states nothing."""
    stated, note = _processor(folder), ""
    default = _sides(vision.get("image_size", 224))
    if stated is None:
        stated = {}
        note = f"{folder} has no {PREPROCESSOR}: {default[0]}x{default[1]} pixels, ImageNet's mean and deviation were assumed."
    factor = stated.get("rescale_factor", 1 / 255) if stated.get("do_rescale", True) else 1
    if not math.isclose(factor, 1 / 255, rel_tol=1e-3):
        raise CheckpointError(f"{folder} scales pixels by {factor:g}, not by 1/255, which is not supported.")
    normal = stated.get("do_normalize", True)
    mean = tuple(stated.get("image_mean") or IMAGENET_MEAN) if normal else (0.0, 0.0, 0.0)
    std = tuple(stated.get("image_std") or IMAGENET_STD) if normal else (1.0, 1.0, 1.0)
    resized = stated.get("size") or {}
    cut = stated.get("crop_size") if stated.get("do_center_crop") else None
    size = requested.size or _sides(cut or resized, default)
    shortest = resized.get("shortest_edge") if isinstance(resized, Mapping) else resized
    side = size[0] if size[0] == size[1] else size
    mode = "bilinear" if stated.get("resample", BICUBIC) == BILINEAR else "bicubic"
    image = ImageInput(side, mean, std, mode)  # type: ignore[arg-type]
    if requested.center and cut and shortest:
        image = replace(image, crop="center", crop_pct=min(_sides(cut, default)[0] / shortest, 1.0))
    return image, note


def _processor(folder: Path) -> Mapping[str, Any] | None:
    """A folder's settings of images; transformers 5 may keep them in another file."""
    for name in (PROCESSOR, PREPROCESSOR):
        if (folder / name).is_file():
            try:
                content = read_json(folder / name)
            except (OSError, ValueError) as error:
                raise CheckpointError(f"{folder / name} cannot be read ({first_line(error)}).") from error
            settings = content.get("image_processor", content if name == PREPROCESSOR else None)
            if isinstance(settings, Mapping):
                return settings
    return None


def _sides(size: Any, default: tuple[int, int] = (224, 224)) -> tuple[int, int]:
    """Height and width, from a number, a pair, or the size in a processor's config."""
    if isinstance(size, Mapping):
        if "height" in size:
            return int(size["height"]), int(size["width"])
        size = size.get("shortest_edge", default)
    return (size, size) if isinstance(size, int) else (int(size[0]), int(size[1]))


def _sha256(folder: Path, config: Mapping[str, Any]) -> str:
    """sha256 over the weights and the parts of the config that determine the network."""
    files = sorted(file for pattern in ("*.safetensors", "*.bin") for file in folder.glob(pattern))
    first = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    parts = "+".join(file_sha256(file) for file in ([first] if first else files))
    text = json.dumps({key: value for key, value in config.items() if key not in VOLATILE}, sort_keys=True)
    return hashlib.sha256(f"{parts} {text}".encode()).hexdigest()
