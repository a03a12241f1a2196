"""wav2vec 2.0 (Baevski et al., 2020) and its relatives of Hugging Face's transformers, HuBERT and WavLM: 768-d every 20 ms.

A long sound is processed in chunks of 20 s with 2 s of context on either side, cut at native frames, so that their number
is that of the whole sound. Normalisations along the whole sound are computed along the whole sound here, too: that of
the samples, and the group norm after the first convolution, whose statistics follow from the first and second moments
of the samples under the convolution's kernel.
"""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

from transformers import HubertConfig, PretrainedConfig, Wav2Vec2Config, WavLMConfig
from transformers.models.auto.modeling_auto import AutoModel

from abaw.backbones.audio.audio_encoder import AudioEncoder, Take, on_host, tensor_of
from abaw.backbones.hidden_states import choose_states, wants_layers
from abaw.core.errors import CheckpointError
from abaw.media.frame_times import Nanoseconds, sample_times
from abaw.media.waveform import RATE_HZ, Waveform

CONFIGS = {"wav2vec2": Wav2Vec2Config, "hubert": HubertConfig, "wavlm": WavLMConfig}  # of the base networks
CHUNK_S, CONTEXT_S = 20.0, 2.0
MOMENT_SAMPLES = 60 * RATE_HZ  # read at a time when moments are summed
BATCH_SIZES = {"cuda": 16, "cpu": 1}
VARIANCE_FLOOR = 1e-7  # of the feature extractor of transformers


class FileNorm(nn.Module):
    """Group norm of one channel per group over time, with statistics that are set from outside; its keys are those of `nn.GroupNorm`."""

    mean: Tensor
    std: Tensor

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps
        self.register_buffer("mean", torch.zeros_like(norm.weight), persistent=False)
        self.register_buffer("std", torch.ones_like(norm.weight), persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        """(n, channels, time) normalised."""
        scale = self.weight / self.std
        return maps * scale[:, None] + (self.bias - self.mean * scale)[:, None]


class Wav2Vec2(AudioEncoder):
    """Hidden states of a transformer over sound.

    Args:
        outputs: "last"; "layer0" (what goes into the first layer) to "layerN"; "last4" (the mean of the last four).
        config: of the network. Its adapter, which makes fewer states of them, is left out.
        normalise: bring each sound to mean 0 and variance 1.
    """

    def __init__(self, outputs: Sequence[str], config: PretrainedConfig, normalise: bool = True) -> None:
        super().__init__()
        config.apply_spec_augment, config.layerdrop = False, 0.0  # these are for training
        config.add_adapter = False
        self.outputs, self.normalise = tuple(outputs), normalise
        self.model: Any = AutoModel.from_config(config, trust_remote_code=False)
        kernels, strides = config.conv_kernel, config.conv_stride
        self.stride = int(np.prod(strides))
        self.field = 1 + sum((kernel - 1) * int(np.prod(strides[:i])) for i, kernel in enumerate(kernels))
        self.n_layers = int(config.num_hidden_layers)
        # SEW's layers see the mean of this many frames; its last states are of single frames again
        self.squeeze = int(getattr(config, "squeeze_factor", 1))
        self.min_samples = self.field + (self.squeeze - 1) * self.stride

    def fix_statistics(self) -> None:
        """Let the group norm, if the network has one, use the statistics of a whole sound."""
        layer = self.model.feature_extractor.conv_layers[0]
        if isinstance(getattr(layer, "layer_norm", None), nn.GroupNorm):
            layer.layer_norm = FileNorm(layer.layer_norm)

    def prepare(self, samples: Tensor) -> Tensor:
        """A normalised sound, (1, samples); its statistics are kept for the pass that follows."""
        waveform = Waveform.of(samples.cpu().numpy())
        mean, std = self._set_statistics(waveform)
        return ((samples.to(self._device) - mean) / std)[None]

    def forward(self, samples: Tensor) -> dict[str, Tensor]:
        """Hidden states of a batch (n, samples): (n, frames, width); of one sound (frames, width)."""
        layers = wants_layers(self.outputs)
        result = self.model(samples, output_hidden_states=layers)
        outputs = choose_states(self.outputs, result.last_hidden_state, result.hidden_states if layers else None)
        return {name: states[0] if len(samples) == 1 else states for name, states in outputs.items()}

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def encode(self, waveform: Waveform, middles_ns: Nanoseconds, take: Take) -> None:
        """A native frame every 20 ms; a shorter sound is padded with silence."""
        n_samples = max(len(waveform), self.min_samples)
        n_frames = (n_samples - self.field) // self.stride + 1
        mean, std = self._set_statistics(waveform)
        for batch in self._batches(n_frames):
            low, high = batch[0][2], batch[0][3]
            n = (high - low - 1) * self.stride + self.field
            samples = np.stack([waveform.read(c[2] * self.stride, c[2] * self.stride + n) for c in batch])
            outputs = self((tensor_of(samples, self._device) - mean) / std)
            if len(batch) == 1:
                outputs = {name: states[None] for name, states in outputs.items()}
            self._compare(outputs, high - low)
            for i, (first, last, low, _) in enumerate(batch):
                centres = np.arange(first, last) * self.stride + self.field / 2
                part = {name: states[i, first - low : last - low] for name, states in outputs.items()}
                take(sample_times(centres), on_host(part))

    def _compare(self, outputs: dict[str, Tensor], n_frames: int) -> None:
        """Check that there is one state for each frame of the convolutions.

        Raises:
            CheckpointError: there are more or fewer.
        """
        for name, states in outputs.items():
            if states.shape[1] != n_frames:
                raise CheckpointError(
                    f"{self.model.config.model_type} gives {states.shape[1]} states ({name}) for {n_frames} frames of its "
                    "convolutions, so their times are unknown. Use another network."
                )

    def _batches(self, n_frames: int) -> Iterator[list[tuple[int, int, int, int]]]:
        """Batches of chunks of equal length: their frames (first, last + 1), and the same with context.

        Padding would change the features, so the first and the last chunk are separate batches.
        """
        unit = self.stride * self.squeeze  # chunks begin where SEW squeezes frames of the whole sound
        length, context = (round(seconds * RATE_HZ / unit) * self.squeeze for seconds in (CHUNK_S, CONTEXT_S))
        batch: list[tuple[int, int, int, int]] = []
        for first in range(0, n_frames, length):
            last = min(first + length, n_frames)
            chunk = (first, last, max(0, first - context), min(n_frames, last + context))
            if batch and (len(batch) == BATCH_SIZES[self._device.type] or _size(batch[0]) != _size(chunk)):
                yield batch
                batch = []
            batch.append(chunk)
        yield batch

    @torch.no_grad()
    def _set_statistics(self, waveform: Waveform) -> tuple[float, float]:
        """Mean and standard deviation of a sound; sets the statistics of the group norm."""
        mean, std = _mean_and_std(waveform) if self.normalise else (0.0, 1.0)
        convolution = self.model.feature_extractor.conv_layers[0]
        norm = getattr(convolution, "layer_norm", None)
        if isinstance(norm, FileNorm):
            kernel = convolution.conv.weight[:, 0].double().cpu()
            stride = convolution.conv.stride[0]
            means, products = _window_moments(waveform, kernel.shape[1], stride, self.min_samples)
            # of (x - mean) / std instead of x
            covariance = torch.from_numpy(products - np.outer(means, means)) / std**2
            centred = torch.from_numpy((means - mean) / std)
            bias = 0.0 if convolution.conv.bias is None else convolution.conv.bias.double().cpu()
            variance = torch.einsum("ci,ij,cj->c", kernel, covariance, kernel).clamp(min=0)
            norm.mean.copy_(kernel @ centred + bias)
            norm.std.copy_((variance + norm.eps).sqrt())
        return mean, std


def _size(chunk: tuple[int, int, int, int]) -> int:
    return chunk[3] - chunk[2]


def _mean_and_std(waveform: Waveform) -> tuple[float, float]:
    total = squares = 0.0
    for start in range(0, len(waveform), MOMENT_SAMPLES):
        samples = waveform.read(start, min(start + MOMENT_SAMPLES, len(waveform))).astype(np.float64)
        total += float(samples.sum())
        squares += float(np.square(samples).sum())
    mean = total / len(waveform)
    return mean, float(np.sqrt(max(squares / len(waveform) - mean**2, 0.0) + VARIANCE_FLOOR))


def _window_moments(waveform: Waveform, width: int, stride: int, min_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean (width,) and mean outer product (width, width) of the samples under a moving kernel."""
    n_windows = (max(len(waveform), min_samples) - width) // stride + 1
    means, products = np.zeros(width), np.zeros((width, width))
    step = MOMENT_SAMPLES // stride
    for first in range(0, n_windows, step):
        n = min(step, n_windows - first)
        samples = waveform.read(first * stride, (first + n - 1) * stride + width).astype(np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(samples, width)[::stride]
        means += windows.sum(axis=0)
        products += windows.T @ windows
    return means / n_windows, products / n_windows
