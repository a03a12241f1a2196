"""A frozen network on a device that computes features of frames or sound."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

from abaw.backbones.registry import Built, check_outputs
from abaw.backbones.spec import BackboneSpec
from abaw.core.devices import has_float64
from abaw.core.errors import UsageError, first_line
from abaw.core.records import FLOAT32, GIVEN, Record, fingerprint_of

if TYPE_CHECKING:
    import torch

    from abaw.backbones.audio.audio_encoder import AudioEncoder
    from abaw.backbones.text.transcript_encoder import TranscriptEncoder
    from abaw.backbones.vision.views import Mask


class Backbone:
    """A network that is frozen on a device: uint8 images or a float waveform in, features out.

    Args:
        built: the network with its weights, which is changed: it no longer trains, and is moved and cast.
        device: a torch device.
        precision: "float32" or "bfloat16".
        compiled: compile the network for images with `torch.compile`, anew for each size of a batch.

    Attributes:
        specs: the outputs that are wanted, all of one family.
        weights_sha256: of the weights; None for a backbone without weights.
        device: a torch device.
        precision: that the network computes in, whatever was asked for.
        compiled: whether it is compiled, whatever was asked for: networks without weights and those for sound are not.
        notes: one sentence for each change that made the weights fit.
        lineage: what the weights file says about its training, see `abaw.backbones.lineage`.
        source: distribution and version of the plug-in that the backbone comes from; empty for abaw's own.
    """

    def __init__(
        self, built: Built, device: "str | torch.device" = "cpu", precision: str = FLOAT32, compiled: bool = False
    ) -> None:
        import torch

        self._built = built
        self.specs = tuple(built.specs)
        self.weights_sha256 = built.weights_sha256
        self.device = torch.device(device)
        if self.spec.modality == "audio" and not has_float64(self.device):
            self.device = torch.device("cpu")  # spectrograms are computed in float64
        self.precision = FLOAT32 if getattr(built.network, "float32_only", False) else precision
        self.notes = built.notes
        self.source = built.source
        self.lineage = built.lineage
        self._dtype: torch.dtype = getattr(torch, self.precision)
        self._network = built.network.eval().requires_grad_(False).to(device=self.device, dtype=self._dtype)
        self.compiled = compiled and self.spec.modality == "vision" and self.spec.weights != "none"
        self._call: Callable[..., dict[str, torch.Tensor]] = self._network
        if self.compiled:
            self._call = torch.compile(self._network, dynamic=False)

    @property
    def spec(self) -> BackboneSpec:
        """The spec, of the first output if there are several."""
        return self.specs[0]

    def record(self, spec: BackboneSpec, view: str = "", alignment: str = GIVEN) -> Record:
        """The record of one output; see `abaw.core.records`."""
        crops = alignment if spec.modality == "vision" else GIVEN
        return spec.record(self.weights_sha256, view, self.precision, crops, self.compiled)

    def fingerprint(self, spec: BackboneSpec, view: str = "", alignment: str = GIVEN) -> str:
        """Fingerprint of one output."""
        return fingerprint_of(self.record(spec, view, alignment))

    def in_precision(self, precision: str, compiled: bool = False) -> "Backbone":
        """This backbone in another precision, which must not be finer; itself if that changes nothing.

        Args:
            compiled: compile it, too; a backbone that is compiled already stays so.
        """
        compiled = compiled or self.compiled
        precision = FLOAT32 if self.is_float32_only else precision
        if (precision, compiled) == (self.precision, self.compiled):
            return self
        built = replace(self._built, network=deepcopy(self._network))
        return Backbone(built, self.device, precision, compiled)

    @property
    def is_float32_only(self) -> bool:
        """True if the network only computes in float32."""
        return bool(getattr(self._network, "float32_only", False))

    @property
    def network(self) -> "torch.nn.Module":
        """The frozen network, which gives the outputs of the specs by name."""
        return self._network

    @property
    def encoder(self) -> "AudioEncoder":
        """The network of an audio backbone, which takes sounds of any length."""
        from abaw.backbones.audio.audio_encoder import AudioEncoder

        assert isinstance(self._network, AudioEncoder), "images go through preprocess"
        return self._network

    @property
    def transcript_encoder(self) -> "TranscriptEncoder":
        """The network of a text backbone, which takes transcripts."""
        from abaw.backbones.text.transcript_encoder import TranscriptEncoder

        assert isinstance(self._network, TranscriptEncoder), "images go through preprocess"
        return self._network

    def preprocess(self, images: "torch.Tensor") -> "torch.Tensor":
        """Model input (n, 3, height, width), normalised, from (n, height, width, 3) uint8 RGB images on any device.

        For sound: from a short waveform, (samples,) float32, 16 kHz, mono.
        """
        from abaw.backbones.vision.preprocess import prepare_images

        if self.spec.image is None:
            return self.encoder.prepare(images)
        return prepare_images(images.to(self.device, non_blocking=True), self.spec.image, self._dtype)

    def __call__(
        self, inputs: "torch.Tensor", view: str = "", keys: Sequence[tuple[str, int]] | None = None
    ) -> "torch.Tensor | dict[str, torch.Tensor]":
        """Features of model input: (n, *shape) float, or for several outputs a dict of them by backbone name.

        Args:
            inputs: from `preprocess`; for `hflip`, of images that `apply_view` has mirrored.
            view: its name.
            keys: video and frame number of each row; required for a masked view, which depends on them.

        Raises:
            UsageError: an unknown view, a masked view of a network without patches, or a network that cannot be
                compiled here.
        """
        from abaw.backbones.vision.views import parse_mask

        mask = parse_mask(view)
        kept = {} if mask is None else {"kept": self._kept_patches(mask, keys, len(inputs))}
        outputs = self._outputs(inputs, kept)
        if len(self.specs) == 1:
            return outputs[self.spec.output]
        return {spec.name: outputs[spec.output] for spec in self.specs}

    def _outputs(self, inputs: "torch.Tensor", kept: "dict[str, torch.Tensor]") -> "dict[str, torch.Tensor]":
        import torch

        with torch.inference_mode():
            if not self.compiled:
                outputs = self._call(inputs, **kept)
                if self.source:
                    check_outputs(self.specs, outputs, len(inputs))
                return outputs
            from torch._dynamo.exc import TorchDynamoException

            try:
                return self._call(inputs, **kept)
            except TorchDynamoException as error:
                cause = first_line(getattr(error, "inner_exception", error))
                raise UsageError(
                    f"Backbone {self.spec.name} cannot be compiled here ({cause}). Leave out --compile."
                ) from error

    def _kept_patches(self, mask: "Mask", keys: Sequence[tuple[str, int]] | None, n_rows: int) -> "torch.Tensor":
        """Indices of the patches that each row keeps, (n, kept) int64 on the device."""
        import torch

        from abaw.backbones.vision.views import kept_patches

        n_patches = getattr(self._network, "n_patches", None)
        if n_patches is None:
            raise UsageError(
                f"Backbone {self.spec.name} has no patches to mask. Take mae-mean or mae-cls for {mask.view}."
            )
        if keys is None or len(keys) != n_rows:
            n_keys = 0 if keys is None else len(keys)
            raise UsageError(f"View {mask.view} of {n_rows} rows needs the video and frame of each; it got {n_keys}.")
        kept = torch.from_numpy(kept_patches(mask, keys, n_patches))
        if self.device.type == "cuda":
            kept = kept.pin_memory()  # a copy of other memory would wait for the batch before
        return kept.to(self.device, non_blocking=True)
