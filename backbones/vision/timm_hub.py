"""Models on the hub (huggingface.co): their configurations and weights, from the local cache or over the network."""

import socket
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies

import huggingface_hub
import timm
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import (
    EntryNotFoundError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from torch import nn

from abaw.backbones.spec import BackboneSpec
from abaw.backbones.vision.timm_arguments import model_of, to_arguments
from abaw.backbones.vision.timm_folders import CONFIG, WEIGHTS, Config, parse_config, read_config
from abaw.backbones.vision.timm_names import HUB, LOCAL, TIMM
from abaw.backbones.weights import how_to_pass
from abaw.core.errors import CheckpointError, UsageError, first_line


def hub_config(model_id: str) -> Config:
    """The configuration of a model on the hub, `ORG/MODEL` or `ORG/MODEL@REVISION`.

    Raises:
        UsageError: the hub has no such model.
        CheckpointError: the hub cannot be reached, or the configuration is not timm's.
    """
    try:
        file = _fetch(model_id, CONFIG)
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise UsageError(f"The hub has no public model {model_id!r} ({first_line(error)}).") from error
    except Exception as error:  # of the network
        raise CheckpointError(
            f"The configuration of {HUB}{model_id} could not be read from huggingface.co ({first_line(error)}). Without a "
            f"network, download the folder elsewhere and pass it as timm/{LOCAL}:FOLDER."
        ) from error
    return parse_config(read_config(file.parent) or {}, f"{HUB}{model_id}")


def hub_file(spec: BackboneSpec) -> Path:
    """The weights of a spec of the family `timm/hf-hub:ORG/MODEL`.

    Raises:
        CheckpointError: the download failed, or the model has no weights.
    """
    model_id = spec.family.removeprefix(TIMM + HUB)
    cached = next(filter(None, (_cached(model_id, name) for name in WEIGHTS)), None)
    if cached is not None:
        return cached
    try:
        for name in WEIGHTS:
            with suppress(EntryNotFoundError):
                return _fetch(model_id, name)
    except Exception as error:  # of the network
        raise _not_downloaded(spec, model_id.partition("@")[0], error) from error
    raise CheckpointError(f"huggingface.co/{model_id} has no weights such as {' or '.join(WEIGHTS[:2])}.")


def _cached(model_id: str, name: str) -> Path | None:
    """A file of a model in the hub's local cache, which is not updated, so that features stay the same."""
    repository, _, revision = model_id.partition("@")
    file = try_to_load_from_cache(repository, name, revision=revision or None)
    return Path(file) if isinstance(file, str) else None


def _fetch(model_id: str, name: str) -> Path:
    """A file of a model from the cache or over the network; EntryNotFoundError if the hub has no such file."""
    cached = _cached(model_id, name)
    if cached is not None:
        return cached
    repository, _, revision = model_id.partition("@")
    _reach(huggingface_hub.constants.ENDPOINT)
    try:
        return Path(huggingface_hub.hf_hub_download(repository, name, revision=revision or None))
    except LocalEntryNotFoundError as error:  # the hub was not asked
        raise OSError(first_line(error)) from error


def pretrained(spec: BackboneSpec) -> nn.Module:
    """The model with timm's own weights.

    Raises:
        CheckpointError: the download failed.
    """
    model = model_of(spec)
    config = timm.get_pretrained_cfg(model)
    hub = (config.hf_hub_id if config else None) or TIMM + model
    try:
        if not isinstance(try_to_load_from_cache(hub, WEIGHTS[0]), str):
            _reach(huggingface_hub.constants.ENDPOINT)
        return timm.create_model(model, pretrained=True, num_classes=0, **to_arguments(model, spec.options))
    except (OSError, RuntimeError) as error:
        raise _not_downloaded(spec, hub, error) from error


def _not_downloaded(spec: BackboneSpec, hub: str, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"The weights of {spec.name} could not be downloaded ({first_line(error)}). The file is "
        f"{WEIGHTS[0]} of huggingface.co/{hub}. {how_to_pass(spec)}"
    )


def _reach(address: str) -> None:
    """Raises OSError at once if the host does not answer; the hub's client would retry for most of a minute."""
    parts = urlsplit(address)
    proxied = getproxies().get(parts.scheme)
    if proxied is None:
        socket.create_connection((parts.hostname, parts.port or 443), timeout=5).close()
