"""Encoders and a head as one model, from the pixels of a window to its outputs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from abaw.backbones.spec import BackboneSpec, ImageInput
from abaw.backbones.vision.preprocess import prepare_images
from abaw.core.devices import has_float64
from abaw.core.errors import UsageError
from abaw.core.names import name_of_view
from abaw.core.tasks import Task
from abaw.train.finetune.augment import AUGMENTS
from abaw.train.finetune.batch_statistics import batch_norms, count_images, share_statistics
from abaw.train.finetune.finetune_config import FinetuneConfig
from abaw.train.finetune.layers import add_lora, checkpoint_blocks, drop_paths, freeze_first
from abaw.train.finetune.mixing import Pairs, pairs_of
from abaw.train.finetune.pixel_table import IMAGES, SIZES
from abaw.train.heads.inputs import Tensors
from abaw.train.model import Model

DAN = "dan"  # the family of EMMA's frozen network


@dataclass(frozen=True)
class Outputs:
    """The outputs of one network that a head takes: by name of the feature, its spec."""

    specs: Mapping[str, BackboneSpec]

    @property
    def image(self) -> ImageInput:
        """The input that all of them share."""
        image = next(iter(self.specs.values())).image
        assert image is not None, "backbones of sound are refused"
        return image

    @property
    def family(self) -> str:
        """The family of the network."""
        return next(iter(self.specs.values())).family


class PixelModel(nn.Module):
    """Encoders, and heads on their features.

    `forward(features, masks)` takes the inputs of a `PixelTable`. In training it gives (batch, time, outputs), or with
    views or copies (branches, batch, time, outputs); in evaluation the mean over copies.

    Attributes:
        encoders: a network for each of `outputs`; with copies so many of the only one.
        heads: one, or one for each copy.
    """

    def __init__(
        self,
        config: FinetuneConfig,
        task: Task,
        shapes: Mapping[str, tuple[int, ...]],
        networks: Sequence[nn.Module],
        outputs: Sequence[Outputs],
    ) -> None:
        super().__init__()
        self._config, self._outputs, self._shapes = config, tuple(outputs), dict(shapes)
        self._pairs: Pairs | None = None
        self.encoders = nn.ModuleList(networks)
        self.heads = nn.ModuleList(Model(config, task, shapes) for _ in range(config.copies))
        self._is_frozen = [set(one.specs) <= set(config.freeze) for one in self._outputs]
        for number, network in enumerate(self.encoders):
            self._set_up(network, self._is_frozen[number % len(self._outputs)])

    def _set_up(self, network: nn.Module, is_frozen: bool) -> None:
        config = self._config
        if is_frozen:
            network.requires_grad_(False)
            return
        if config.mask and getattr(network, "n_patches", None) is None:
            raise UsageError("mask hides patches, which only MAE encoders can leave out. Use mae-cls or mae-mean.")
        drop_paths(network, config.drop_path)
        if config.batchnorm == "train":
            if config.chunk and any(True for _ in batch_norms(network)) and not hasattr(network, "embed_pooled"):
                raise UsageError(
                    "batchnorm=train takes the statistics of a whole batch, which an encoder with batch normalisation in "
                    "its blocks cannot see in chunks. Use batchnorm=eval, or checkpoint=true in place of chunk."
                )
            share_statistics(network)
        if config.checkpoint:
            checkpoint_blocks(network)
        if config.lora.rank:
            add_lora(network, config.lora.rank, config.lora.alpha)
        elif config.unfreeze:
            freeze_first(network, config.unfreeze)

    def networks(self) -> Iterator[tuple[nn.Module, Mapping[str, BackboneSpec]]]:
        """The encoders, with the specs of the features that each gives."""
        for number, network in enumerate(self.encoders):
            yield network, self._outputs[number % len(self._outputs)].specs

    def freeze_unused(self) -> None:
        """Freeze parameters that no output depends on, such as a layer after the one whose output is taken.

        They would decay, get no state in the optimizer, and stop several processes.
        """
        before = self.training
        self.train(False)
        for network, specs in self.networks():
            size = next(iter(specs.values())).image
            assert size is not None, "backbones of sound are refused"
            device = next(self.heads.parameters()).device
            trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
            if not trained:
                continue
            encoded = network(torch.zeros(1, 3, *size.height_width, device=device))
            total = torch.stack([encoded[spec.output].float().sum() for spec in specs.values()]).sum()
            gradients = torch.autograd.grad(total, trained, allow_unused=True)
            for parameter, gradient in zip(trained, gradients, strict=True):
                parameter.requires_grad_(gradient is not None)
        self.train(before)

    def train(self, mode: bool = True) -> "PixelModel":
        """Set training or evaluation mode; frozen encoders stay in evaluation mode, DAN's batch normalisation by option."""
        super().train(mode)
        for number, network in enumerate(self.encoders):
            if self._is_frozen[number % len(self._outputs)]:
                network.eval()
                if (
                    mode
                    and self._config.dan_batchnorm == "train"
                    and self._outputs[number % len(self._outputs)].family == DAN
                ):
                    for norm in batch_norms(network):
                        norm.train()
            elif self._config.batchnorm == "eval":
                for norm in batch_norms(network):
                    norm.eval()
        return self

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """Outputs of a batch; see the class."""
        shown = masks[IMAGES]
        rows = shown.flatten().nonzero()[:, 0]
        self._pairs = pairs_of(features, shown) if self.training else None
        images = self._images(features, rows, rows // shown.shape[1])
        if self._config.copies == 1:
            outputs: Tensor = self.heads[0](*self._features(range(len(self._outputs)), images, rows, shown))
            return outputs
        branches = torch.stack(
            [self.heads[copy](*self._features([copy], images, rows, shown)) for copy in range(self._config.copies)]
        )
        return branches if self.training else branches.mean(dim=0)

    def from_features(self, copies: Sequence[tuple[Tensors, Tensors]]) -> Tensor:
        """Outputs from features of the encoders of each copy and their masks, by name, in evaluation."""
        outputs = [head(*given) for head, given in zip(self.heads, copies, strict=True)]
        return torch.stack(outputs).mean(dim=0)

    def _images(self, features: Tensors, rows: Tensor, clips: Tensor) -> list[tuple[Tensor, Tensor]]:
        """The images of rows, (n, height, width, 3) uint8 for each size, with their numbers; in training augmented."""
        flat, sizes = features[IMAGES].flatten(0, 1)[rows], features[SIZES].flatten(0, 1)[rows]
        groups = []
        for height, width in sizes.unique(dim=0).tolist():
            members = ((sizes[:, 0] == height) & (sizes[:, 1] == width)).nonzero()[:, 0]
            images = flat[members, :height, :width]
            if self.training and self._config.augment != "none":
                image = self._image(self._outputs[0])
                augment = AUGMENTS[self._config.augment]
                pixels = images.permute(0, 3, 1, 2)
                if not has_float64(pixels.device):
                    pixels = pixels.cpu()
                changed = augment(pixels, clips[members].cpu(), image.height_width[0], image.interpolation)
                images = changed.permute(0, 2, 3, 1).contiguous().to(images.device)
            groups.append((members, images))
        return groups

    def _image(self, outputs: Outputs) -> ImageInput:
        if not self._config.interpolation:
            return outputs.image
        return replace(outputs.image, interpolation=self._config.interpolation)

    def _features(
        self, numbers: Sequence[int] | range, images: Sequence[tuple[Tensor, Tensor]], rows: Tensor, shown: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Features of the encoders with these numbers, by name and view, and their masks."""
        values, masks = {}, {}
        views = (self._config.views or ("",)) if self.training else ("",)
        for number in numbers:
            encoded = self._encode(number, images, len(rows), views)
            for name, spec in self._outputs[number % len(self._outputs)].specs.items():
                for view, feature in zip(
                    views, encoded[spec.output].float().unflatten(0, (len(views), len(rows))), strict=True
                ):
                    dense = feature.new_zeros(shown.numel(), *feature.shape[1:])
                    key = name_of_view(name, view)
                    values[key] = dense.index_copy(0, rows, feature).view(*shown.shape, *feature.shape[1:])
                    masks[key] = shown
        return values, masks

    def _encode(
        self, number: int, images: Sequence[tuple[Tensor, Tensor]], n_rows: int, views: Sequence[str]
    ) -> dict[str, Tensor]:
        """All outputs of an encoder, (views * rows, *shape) each: for the first view of all rows, then for the next."""
        network: Any = self.encoders[number]
        is_frozen = self._is_frozen[number % len(self._outputs)]
        outputs, device = self._outputs[number % len(self._outputs)], next(self.heads.parameters()).device
        n_images = n_rows * len(views)
        n_encoded = max(
            1, n_images
        )  # without an image, as in a share of a batch, one keeps the parameters in the graph
        if self.training and self._config.batchnorm == "train":
            count_images(network, n_images > 0)
        kept = None
        if self.training and self._config.mask and not is_frozen:
            kept = self._kept(network, n_encoded, device)

        def encode(places: Tensor, first: int) -> Any:
            inputs = self._inputs(outputs, images, n_rows, views, range(first, first + len(places)))
            if kept is not None:
                return network(inputs, kept=kept[places])
            return network.pool_images(inputs) if hasattr(network, "embed_pooled") else network(inputs)

        needs_all = is_frozen and self._config.dan_batchnorm == "train"  # for its statistics
        chunk = (self._config.chunk if self.training and not needs_all else 0) or n_encoded
        keeps_all = is_frozen or chunk >= n_encoded or not torch.is_grad_enabled()
        parts = []
        for first in range(0, n_encoded, chunk):
            # checkpoint() finds the device, whose random state it keeps, by this tensor
            places = torch.arange(first, min(first + chunk, n_encoded), device=device)
            parts.append(encode(places, first) if keeps_all else checkpoint(encode, places, first, use_reentrant=False))
        if hasattr(network, "embed_pooled"):
            return dict(network.embed_pooled(_joined(parts)[:n_images]))
        names = {spec.output for spec in outputs.specs.values()}
        return {name: _joined([part[name] for part in parts])[:n_images] for name in names}

    def _inputs(
        self,
        outputs: Outputs,
        images: Sequence[tuple[Tensor, Tensor]],
        n_rows: int,
        views: Sequence[str],
        places: range,
    ) -> Tensor:
        """(places, 3, height, width) normalised for a network: some of the images of all views, see `_encode`."""
        image = self._image(outputs)
        inputs = torch.zeros(len(places), 3, *image.height_width, device=next(self.heads.parameters()).device)
        for number, view in enumerate(views):
            for members, group in images:
                own = members + (number * n_rows - places.start)
                inside = (own >= 0) & (own < len(places))
                if inside.any():
                    some = group[inside]
                    inputs[own[inside]] = prepare_images(some.flip(2) if view else some, image)
        return inputs if self._pairs is None else self._pairs.mix(inputs)

    def _kept(self, network: nn.Module, n_images: int, device: torch.device) -> Tensor:
        """(n, k) int64, patches that each image keeps, drawn anew for each encoder and step."""
        n_patches = network.n_patches
        assert isinstance(n_patches, int), "checked when the model is built"
        noise = torch.rand(n_images, n_patches)
        return noise.argsort(dim=1)[:, : int(n_patches * (1 - self._config.mask))].to(device)


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


class HeadOnFeatures(nn.Module):
    """The head of a model on features that its encoders gave before.

    Args:
        names: of the features as they are passed, by the names that the model has for them; for each copy.
    """

    def __init__(self, model: PixelModel, names: Sequence[Mapping[str, str]]) -> None:
        super().__init__()
        self._model, self._names = model, list(names)

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        """(batch, time, outputs)."""
        copies = []
        for names in self._names:
            own, shown = ({name: tensors[stored] for name, stored in names.items()} for tensors in (features, masks))
            copies.append((own, shown))
        return self._model.from_features(copies)
