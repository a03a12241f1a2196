"""Any timm model as a backbone: pooled output, mean of the patch tokens, or class token."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import timm
from torch import Tensor, nn

from abaw.backbones.registry import Built, get_spec
from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.backbones.vision.hub_vision import build_hub, is_of_transformers
from abaw.backbones.vision.timm_arguments import (
    QUICKGELU,
    as_option,
    check_model,
    config_of,
    model_of,
    tags_of,
    to_arguments,
    unusual,
)
from abaw.backbones.vision.timm_folders import Config, folder_weights, parse_config, read_config
from abaw.backbones.vision.timm_hub import hub_config, hub_file, pretrained
from abaw.backbones.vision.timm_names import HUB, LOCAL, POOLED, TIMM, TimmName, parse_name
from abaw.backbones.vision.timm_sketch import check_patches, find_tokens, image_input, mean_norm, sketch, why_not
from abaw.backbones.vision.timm_weights import load_converted, load_numpy
from abaw.backbones.weights import file_sha256, state_sha256
from abaw.core.errors import CheckpointError, UsageError


class TimmNetwork(nn.Module):
    """A timm model without its classifier; gives several outputs in one pass."""

    def __init__(self, model: nn.Module, outputs: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self.outputs = tuple(outputs)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(n, 3, height, width) normalised -> `mean` and `cls` (n, width) of a row of tokens, and `pooled`.

        `mean` is the mean of the patch tokens after the final norm; or it is normed itself, in networks that norm the
        mean instead of the tokens (`fc_norm`).
        """
        model = cast(Any, self.model)
        hidden = model.forward_features(images)
        outputs = {}
        if POOLED in self.outputs:
            outputs[POOLED] = model.forward_head(hidden, pre_logits=True)
        if "cls" in self.outputs:
            outputs["cls"] = hidden[:, 0]
        if "mean" in self.outputs:
            tokens = find_tokens(model, hidden)
            assert tokens is not None, "names of networks without tokens are refused"
            outputs["mean"] = mean_norm(model)(hidden[:, tokens.n_first :].mean(dim=1))
        return outputs


@lru_cache
def timm_spec(name: str) -> BackboneSpec:
    """Spec of `timm/<model>`, with or without an output, a size and a crop: see `timm_names`.

    Raises:
        UsageError: timm has no such model, or the model has no such output or size.
        CheckpointError: the configuration of a model on the hub cannot be read.
    """
    parsed = parse_name(name)
    family = TIMM + parsed.model
    if parsed.model == LOCAL:
        return _unread(name, parsed)
    if parsed.model.startswith(HUB):
        return configured(name, family, _supported(hub_config(parsed.model.removeprefix(HUB))), parsed)
    model = check_model(parsed.model)
    return configured(name, family, Config(model, config_of(model)), parsed)


def sized_spec(name: str) -> BackboneSpec | None:
    """Spec of a registered network of timm with another size or crop, such as `vit-mean@112+center`.

    Returns:
        None if the name without size and crop is unknown.

    Raises:
        UsageError: an invalid size or crop, or a network whose input is fixed.
    """
    parsed = parse_name(name)
    try:
        plain = get_spec(parsed.plain)
    except UsageError:
        return None
    if not plain.network.startswith(TIMM):
        raise UsageError(f"{parsed.plain} has a fixed input. Sizes (@112) and +center are for networks of timm.")
    model = model_of(plain)
    config = configured(name, plain.family, Config(model, config_of(model)), parsed)
    return replace(plain, name=name, image=config.image, options=config.options)


def configured(name: str, family: str, config: Config, parsed: TimmName) -> BackboneSpec:
    """The spec of a model with its configuration, at the size and with the crop in the name.

    Raises:
        UsageError: the model has no such output or size.
    """
    model, usual = config.model, tuple(config_of(config.model)["input_size"][1:])
    size = parsed.size or config.size
    arguments = {name: value for name, value in config.arguments.items() if name != "img_size"}
    arguments = unusual(model, arguments) if arguments else {}
    if size != usual:
        arguments["img_size"] = size
    if parsed.size not in (None, config.size):
        check_patches(model, size)
    options = tuple((key, as_option(key, arguments[key])) for key in sorted(arguments))
    outputs = sketch(model, options, size)
    output = parsed.output or POOLED
    reason = why_not(name, model, output, outputs)
    if reason:
        raise UsageError(reason)
    return BackboneSpec(
        name=name,
        family=family,
        output=output,
        modality="vision",
        shape=(outputs.pooled if output == POOLED else outputs.width,),
        architecture=f"timm {model}",
        weights="timm",
        image=image_input(config.pretrained_cfg, size, parsed.center),
        parameters=outputs.parameters,
        licence=config.pretrained_cfg.get("license") or "see the model's card",
        network=TIMM + model,
        options=options,
    )


def _unread(name: str, parsed: TimmName) -> BackboneSpec:
    """The spec of a folder before it is read."""
    output = parsed.output or POOLED
    return BackboneSpec(name, TIMM + LOCAL, output, "vision", (), "a folder of timm's", "file", network=TIMM + LOCAL)


def build_timm(specs: Sequence[BackboneSpec], file: Path | None) -> nn.Module | Built:
    """Network of timm specs: from a file or a folder, downloaded by timm, or untrained.

    Raises:
        CheckpointError: the weights are missing or do not fit.
        UsageError: a folder is needed.
    """
    if file is not None and file.is_dir():
        return _build_folder(specs, file)
    if model_of(specs[0]) == LOCAL:
        raise UsageError(
            f"{specs[0].name} needs a folder with config.json and weights: --backbone {specs[0].name}:FOLDER. "
            "For a file of weights name its model: timm/<model>:FILE."
        )
    if file is None and specs[0].weights == "timm" and specs[0].family.startswith(TIMM + HUB):
        file = hub_file(specs[0])
        built = _with_notes(_load(specs, file), specs)
        return replace(built, weights_sha256=built.weights_sha256 or file_sha256(file))
    if file is None:
        return _with_notes(make_timm(specs), specs)
    return _with_notes(_load(specs, file), specs, _assumed(specs[0], file))


def make_timm(specs: Sequence[BackboneSpec]) -> Built:
    """Network of specs whose network is `timm/<model>`, with timm's weights or untrained."""
    spec = specs[0]
    outputs = [spec.output for spec in specs]
    if spec.weights == "timm":
        network = TimmNetwork(pretrained(spec), outputs)
        return Built(network, weights_sha256=state_sha256(network.state_dict()))
    model = timm.create_model(model_of(spec), num_classes=0, **to_arguments(model_of(spec), spec.options))
    return Built(TimmNetwork(model, outputs))


def _load(specs: Sequence[BackboneSpec], file: Path) -> Built:
    """The network with the weights of one file, in timm's own layout or one that timm converts."""
    if file.suffix == ".npz":
        return load_numpy(build_timm, specs, file)
    return load_converted(build_timm, specs, file)


def _build_folder(specs: Sequence[BackboneSpec], folder: Path) -> Built:
    """The network of a folder with a config.json and weights, or a named model with the weights of a folder."""
    spec, content = specs[0], read_config(folder)
    local = model_of(spec) == LOCAL
    if content is None and local:
        raise CheckpointError(
            f"{folder} has no config.json, so its network is unknown. Name it: timm/<model>:{folder}."
        )
    if content is not None and local and is_of_transformers(content):
        return build_hub(specs, folder, content)
    if content is None:
        assert spec.image is not None
        note = f"{folder} has no config.json: {_input(spec.image)} were assumed, which are those of {model_of(spec)}."
    else:
        config, note = _supported(parse_config(content, str(folder))), ""
        if not local:
            config = _as_named(config, spec, folder)
        specs = [configured(member.name, member.family, config, parse_name(member.name)) for member in specs]
    file = folder_weights(folder)
    built = _with_notes(_load(specs, file), specs, note)
    return replace(built, weights_sha256=built.weights_sha256 or file_sha256(file))


def _supported(config: Config) -> Config:
    """The configuration of a model that timm has; the one with QuickGELU if the weights need it."""
    name, tag = config.model.partition(".")[0], config.pretrained_cfg.get("tag")
    return replace(config, model=check_model(f"{name}.{tag}" if tag in tags_of(name) else name).partition(".")[0])


def _as_named(config: Config, spec: BackboneSpec, folder: Path) -> Config:
    """A folder's configuration for the model that a spec names.

    Raises:
        CheckpointError: the folder has another architecture.
    """
    folder_model, spec_model = (name.partition(".")[0] for name in (config.model, model_of(spec)))
    if folder_model.replace(f"_{QUICKGELU}", "") != spec_model.replace(f"_{QUICKGELU}", ""):
        raise CheckpointError(f"{folder} contains {folder_model}, not {spec_model}. Use timm/{folder_model}:{folder}.")
    return (
        config if QUICKGELU in folder_model and QUICKGELU not in spec_model else replace(config, model=model_of(spec))
    )


def _with_notes(built: Built, specs: Sequence[BackboneSpec], *notes: str) -> Built:
    """The network with notes on details that its name does not show."""
    spec, model = specs[0], model_of(specs[0])
    more = [note for note in notes if note]
    if QUICKGELU in model and QUICKGELU not in spec.family and spec.family.startswith(TIMM):
        more.append(f"These weights were trained with QuickGELU: {model} is computed, as timm advises.")
    bare = next(
        (member.name for member in built.specs or specs if member.output == "cls" and _bare_class(member)), None
    )
    if bare:
        more.append(f"{model} norms the mean of its patch tokens alone: {bare} is as the last block left it.")
    return replace(built, notes=(*built.notes, *more))


def _bare_class(spec: BackboneSpec) -> bool:
    assert spec.image is not None
    return sketch(model_of(spec), spec.options, spec.image.height_width).bare_class


def _assumed(spec: BackboneSpec, file: Path) -> str:
    """A sentence on the input assumed for a file, if timm has several for the model; else ""."""
    model, image = model_of(spec), spec.image
    if "." in model or spec.family != TIMM + model or image is None:
        return ""
    assumption = f"{file} does not say how it was trained: {_input(image)} were assumed"
    quick = model.replace("_clip_", f"_clip_{QUICKGELU}_")
    if quick != model and timm.is_model(quick):
        return f"{assumption}, and GELU; for weights of OpenAI, MetaCLIP or DFN take {TIMM}{quick}."
    usual = replace(image, crop="resize", crop_pct=1.0)
    inputs = {tag: image_input(config_of(f"{model}.{tag}"), image.height_width, False) for tag in tags_of(model)}
    other_tag = next((tag for tag, image in inputs.items() if image != usual), "")
    return f"{assumption}; timm's {model}.{other_tag} has others. Name the tag to take its own." if other_tag else ""


def _input(image: ImageInput) -> str:
    height, width = image.height_width
    mean, std = ("/".join(f"{value:.4g}" for value in values) for values in (image.mean, image.std))
    return f"{height}x{width} pixels, mean {mean}, deviation {std}"
