"""Any timm model as a backbone: pooled output, mean of the patch tokens, or class token."""

import difflib
import socket
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub
import timm
import torch
from huggingface_hub import try_to_load_from_cache
from torch import Tensor, nn

from abaw.errors import CheckpointError, UsageError
from abaw.extract.backbone import Built
from abaw.extract.spec import BackboneSpec, ImageInput
from abaw.extract.vision.catalog_affect import GLOBAL_POOL, fit_pooling
from abaw.extract.weights import how_to_pass, load_network, state_sha256

TIMM = "timm/"
POOLINGS = ("mean", "cls")


class TimmNetwork(nn.Module):
    """A timm model without its classifier; gives all of its poolings in one pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(n, 3, size, size) normalised -> `mean` and `cls` (n, width) of a token model, else `pooled`."""
        model = cast(Any, self.model)
        hidden = model.forward_features(images)
        if not _has_tokens(model):
            return {"pooled": model.forward_head(hidden, pre_logits=True)}
        # forward_features ends in the final norm, unless the checkpoint norms the mean instead (fc_norm)
        mean = hidden[:, model.num_prefix_tokens :].mean(dim=1)
        return {
            "mean": model.fc_norm(mean),
            "cls": hidden[:, 0],
            "pooled": model.forward_head(hidden, pre_logits=True),
        }


def _has_tokens(model: Any) -> bool:
    """True for models of timm's VisionTransformer kind: a class token first, then patch tokens."""
    return getattr(model, "cls_token", None) is not None and hasattr(model, "fc_norm")


def split_name(name: str) -> tuple[str, str]:
    """`timm/resnet18` -> ("resnet18", "pooled"); `timm/vit_tiny_patch16_224-mean` -> (..., "mean")."""
    model = name.removeprefix(TIMM)
    for pooling in POOLINGS:
        if model.endswith(f"-{pooling}"):
            return model.removesuffix(f"-{pooling}"), pooling
    return model, "pooled"


@lru_cache
def timm_spec(name: str) -> BackboneSpec:
    """Spec of `timm/<model>[-mean|-cls]`.

    Raises:
        UsageError: timm has no such model, or the model has no tokens to pool so.
    """
    model_name, output = split_name(name)
    if not timm.is_model(model_name):
        near = difflib.get_close_matches(model_name, timm.list_models(), n=3)
        raise UsageError(f"timm has no model {model_name!r}. " + (f"Did you mean {', '.join(near)}?" if near else ""))
    with torch.device("meta"):
        model: Any = timm.create_model(model_name, num_classes=0)
    if output in POOLINGS and not _has_tokens(model):
        raise UsageError(f"{model_name} has no class and patch tokens. Use timm/{model_name} for its pooled output.")
    config = timm.data.resolve_data_config(model=model)
    mode: Literal["bilinear", "bicubic"] = "bilinear" if config["interpolation"] == "bilinear" else "bicubic"
    return BackboneSpec(
        name=name,
        family=f"timm/{model_name}",
        output=output,
        modality="vision",
        shape=(model.num_features if output in POOLINGS else model.head_hidden_size,),
        architecture=f"timm {model_name}",
        network=f"{TIMM}{model_name}",
        weights="timm",
        image=ImageInput(config["input_size"][-1], tuple(config["mean"]), tuple(config["std"]), mode),
        parameters=sum(p.numel() for p in model.parameters()),
        licence="see the model's card",
    )


def build_timm(specs: Sequence[BackboneSpec], file: Path | None) -> nn.Module | Built:
    """Network of `timm/<model>` specs: from a file, from timm's own download, or untrained."""
    return make_timm(specs) if file is None else load_network(build_timm, specs, file, fit_pooling)


def make_timm(specs: Sequence[BackboneSpec]) -> nn.Module | Built:
    """Network of specs whose network is `timm/<model>`, with timm's weights or untrained."""
    spec = specs[0]
    model_name = spec.network.removeprefix(TIMM)
    if spec.weights == "timm":
        network = TimmNetwork(_download(model_name, spec))
        return Built(network, weights_sha256=state_sha256(network.state_dict()))
    options: dict[str, Any] = {"global_pool": "avg"} if spec.option(GLOBAL_POOL, False) else {}
    return TimmNetwork(timm.create_model(model_name, num_classes=0, **options))


def _download(model_name: str, spec: BackboneSpec) -> nn.Module:
    """The model with timm's own weights, from the local cache or the hub."""
    wanted = timm.get_pretrained_cfg(model_name)
    hub = (wanted.hf_hub_id if wanted else None) or f"timm/{model_name}"
    try:
        if not isinstance(try_to_load_from_cache(hub, "model.safetensors"), str):
            _reach(huggingface_hub.constants.ENDPOINT)
        return timm.create_model(model_name, pretrained=True, num_classes=0)
    except (OSError, RuntimeError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise CheckpointError(
            f"The weights of {spec.name} could not be downloaded ({reason}). The file wanted is model.safetensors "
            f"of huggingface.co/{hub}. {how_to_pass(spec)}"
        ) from error


def _reach(address: str) -> None:
    """OSError at once if the host does not answer; the hub's client would try again for most of a minute."""
    parts = urlsplit(address)
    proxied = getproxies().get(parts.scheme)
    if proxied is None:
        socket.create_connection((parts.hostname, parts.port or 443), timeout=5).close()
