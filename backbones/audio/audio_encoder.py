"""The interface of audio encoders: sound of any length in, native frames with their centres out, block by block."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from abaw.media.frame_times import Nanoseconds
from abaw.media.waveform import Waveform

# Called with native frames: their centres, counted from the first sample, and (n, *shape) of each output.
Take = Callable[[Nanoseconds, dict[str, NDArray]], None]
BATCH_SIZES = {"cuda": 128, "cpu": 16}


class AudioEncoder(nn.Module):
    """A network, or a set of descriptors, over a whole sound.

    Attributes:
        float32_only: always True; these networks are small compared to those of images.
        on_device: True if it is one of torch, whose threads share the device one sound at a time.
    """

    float32_only = True
    on_device = True

    def prepare(self, samples: Tensor) -> Tensor:
        """Model input of a short sound, (n,) float32."""
        raise NotImplementedError

    def forward(self, inputs: Any) -> dict[str, Tensor]:
        """Native frames (n, *shape) of model input, by output."""
        raise NotImplementedError

    def encode(self, waveform: Waveform, middles_ns: Nanoseconds, take: Take) -> None:
        """Native frames of a whole sound.

        Args:
            waveform: not empty.
            middles_ns: (rows,) middles of the video's frames on the clock of the sound, for encoders whose native
                frames are placed there.
            take: called with native frames, in order of their centres; at least one comes.
        """
        raise NotImplementedError


def on_host(outputs: dict[str, Tensor]) -> dict[str, NDArray]:
    """Outputs as float32 arrays."""
    return {name: values.detach().float().cpu().numpy() for name, values in outputs.items()}


def tensor_of(samples: NDArray[np.float32], device: torch.device) -> Tensor:
    """Samples on a device; the array may be read-only."""
    return torch.from_numpy(samples.copy()).to(device)
