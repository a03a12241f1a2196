"""Which decoder the pictures of an extraction go through."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from abaw.core.errors import StoreError, UsageError
from abaw.core.records import GPU_DECODER
from abaw.extract.feature import Feature
from abaw.extract.request import ExtractOptions
from abaw.media.decoders import Decoder, TorchcodecDecoder
from abaw.store import FeatureStore

if TYPE_CHECKING:
    import torch

AUTO = "auto"


def with_decoder(features: Sequence[Feature], options: ExtractOptions, here: bool) -> list[Feature]:
    """The features, those of pictures with the decoder of the options: "auto" is that of each in the store.

    Args:
        here: whether this process decodes.

    Raises:
        UsageError: the store has features of both decoders, or this process cannot decode so.
    """
    vision = [feature.name for feature in features if feature.spec.modality == "vision"]
    if options.decoder != AUTO:
        names = dict.fromkeys(vision, GPU_DECODER if options.decoder == GPU_DECODER else "")
    else:
        stored = _stored_decoders(options, vision)
        if len(set(stored.values())) > 1:
            first, other = (next(name for name, by in stored.items() if bool(by) is on_gpu) for on_gpu in (True, False))
            raise UsageError(
                f"Feature {first} was decoded by the GPU and {other} by the processor. Extract them one after the other."
            )
        names = dict.fromkeys(vision, next(iter(stored.values()), ""))
    if here and any(names.values()):
        decoder_on(features[0].backbone.device)
    return [replace(feature, decoder=names.get(feature.name, "")) for feature in features]


def _stored_decoders(options: ExtractOptions, names: Sequence[str]) -> dict[str, str]:
    """The decoder of each feature that is in the store; empty for the processor."""
    decoders = {}
    with suppress(StoreError):  # reported when the store is opened for writing
        store = FeatureStore.open(options.store)
        for name in set(names).intersection(store.features()):
            record = store.feature_record(name) or {}
            decoders[name] = str(record.get("decoder", ""))
    return decoders


def decoder_option(features: Iterable[Feature]) -> Literal["cpu", "gpu"]:
    """The option with which other processes decode in the same way."""
    return "gpu" if any(feature.decoder for feature in features) else "cpu"


def decoder_on(device: "torch.device") -> Decoder:
    """The decoder of a GPU.

    Raises:
        UsageError: the device is no GPU, or torchcodec is missing.
    """
    if device.type != "cuda":
        raise UsageError(
            f"The pictures should be decoded by a GPU, and the device is {device.type}. Add --device cuda, or make "
            "features with --decoder cpu, under a new name (NEWNAME=BACKBONE) where the store has them from a GPU."
        )
    return TorchcodecDecoder(device)
