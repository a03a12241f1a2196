"""The encoder of Whisper (Radford et al., 2022) as Hugging Face's transformers has it: a state every 20 ms.

It hears 30 s at once, no more and no less. A sound up to that length goes through as transformers does it, filled up with
silence; the states of the silence are left out. A longer one goes through in windows of 30 s that move on by 20 s: of
each, the states with 5 s of sound on either side are taken, and at the ends of the sound those up to the end.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from abaw.backbones.audio.audio_encoder import AudioEncoder, Take, on_host
from abaw.backbones.audio.hub_folder import HubFolder, assumed_note, build, dropped_note, fill, read_folder
from abaw.backbones.audio.keys import clean_whisper
from abaw.backbones.audio.states import check_layers, choose_states, wants_layers
from abaw.backbones.weights import file_sha256, read_tensors
from abaw.core.errors import CheckpointError
from abaw.media.frame_times import Nanoseconds, sample_times
from abaw.media.waveform import RATE_HZ, Waveform

FAMILY = "whisper"
CONTEXT_SHARE = 6  # a sixth of the window is context on either side
BATCH_SIZES = {"cuda": 16, "cpu": 1}
STEPS = 2  # of the spectrogram for each state
# The encoder of whisper-base
BASE: dict[str, Any] = {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}
# What makes the spectrogram, by transformers' names, with its defaults; the number of bands is the network's
SPECTROGRAM = {"hop_length": 160, "n_fft": 400, "padding_value": 0.0}


class Whisper(AudioEncoder):
    """Hidden states of Whisper's encoder.

    Args:
        outputs: "last", "layer0" to "layerN", or "last4" (the mean of the last four).
        config: of the whole Whisper; None is that of whisper-base.
        spectrogram: settings of the log-mel spectrogram, by transformers' names.
    """

    def __init__(
        self,
        outputs: Sequence[str],
        config: WhisperConfig | None = None,
        spectrogram: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        config = config or WhisperConfig(**BASE)
        self.outputs = tuple(outputs)
        self.model: Any = WhisperEncoder(config)
        self.n_layers, self.n_states = int(config.encoder_layers), int(config.max_source_positions)
        self._extractor = WhisperFeatureExtractor(feature_size=config.num_mel_bins, **(spectrogram or SPECTROGRAM))
        self.stride = STEPS * self._extractor.hop_length

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def prepare(self, samples: Tensor) -> Tensor:
        """Log-mel spectrogram of the first 30 s of a sound, filled up with silence: (1, bands, 3000)."""
        return self._input([samples.cpu().numpy()])

    def _input(self, sounds: Sequence[np.ndarray]) -> Tensor:
        made = self._extractor(
            list(sounds), sampling_rate=RATE_HZ, max_length=self.n_states * self.stride, return_tensors="pt"
        )
        return made["input_features"].to(self._device)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """States of a batch of spectrograms, (n, 1500, width), those of silence too; of one sound (1500, width)."""
        layers = wants_layers(self.outputs)
        found = self.model(inputs, output_hidden_states=layers)
        made = choose_states(self.outputs, found.last_hidden_state, found.hidden_states if layers else None)
        return {name: states[0] if len(inputs) == 1 else states for name, states in made.items()}

    def encode(self, waveform: Waveform, middles_ns: Nanoseconds, take: Take) -> None:
        """A native frame every 20 ms, the first at the beginning of the sound."""
        n_frames = max(1, -(-len(waveform) // self.stride))
        for batch in self._batches(n_frames):
            sounds = [self._read(waveform, low) for _, _, low in batch]
            outputs = self(self._input(sounds))
            if len(batch) == 1:
                outputs = {name: states[None] for name, states in outputs.items()}
            for i, (first, last, low) in enumerate(batch):
                mine = {name: states[i, first - low : last - low] for name, states in outputs.items()}
                take(sample_times(np.arange(first, last) * self.stride), on_host(mine))

    def _read(self, waveform: Waveform, low: int) -> np.ndarray:
        """Samples of the window that begins with a state, as far as there are any."""
        start = low * self.stride
        return waveform.read(start, min(start + self.n_states * self.stride, max(len(waveform), start + 1)))

    def _batches(self, n_frames: int) -> Iterator[list[tuple[int, int, int]]]:
        """Windows: the states wanted of each (first, last + 1), and the one it begins with."""
        context = self.n_states // CONTEXT_SHARE
        hop = self.n_states - 2 * context
        n_windows = 1 + max(0, -(-(n_frames - self.n_states) // hop))
        windows = []
        for number in range(n_windows):
            low = number * hop
            first = low + (context if number else 0)
            last = n_frames if number == n_windows - 1 else low + context + hop
            windows.append((first, last, low))
        size = BATCH_SIZES[self._device.type]
        yield from (windows[start : start + size] for start in range(0, n_windows, size))


def load_whisper(outputs: Sequence[str], path: Path) -> tuple[Whisper, str, tuple[str, ...]]:
    """The encoder with the weights of a folder or a file, the sha256 of both, and what was done and assumed.

    Raises:
        CheckpointError: nothing is there, or it does not fit.
    """
    if not path.is_dir():
        network = Whisper(outputs)
        check_layers(outputs, network.n_layers, path)
        state, dropped = clean_whisper(read_tensors(path))
        fill(network.model, state, path, FAMILY, is_folder=False)
        note = f"Took {path} for the encoder of whisper-base: a file alone does not say."
        return network, file_sha256(path), (note, *dropped_note(dropped, path))
    folder = read_folder(path)
    spectrogram = {name: folder.setting(name, default) for name, default in SPECTROGRAM.items()}
    network = _network(outputs, folder, spectrogram)
    check_layers(outputs, network.n_layers, path)
    state, dropped = clean_whisper(folder.tensors())
    fill(network.model, state, folder.weights, FAMILY, is_folder=True)
    bands = f"a spectrogram of {network.model.config.num_mel_bins} bands"
    notes = (*dropped_note(dropped, folder.weights), *assumed_note(folder, bands))
    return network, folder.sha256({"spectrogram": spectrogram}), notes


def _network(outputs: Sequence[str], folder: HubFolder, spectrogram: dict[str, Any]) -> Whisper:
    if folder.kind != FAMILY:
        raise CheckpointError(f"{folder.path} is of the kind {folder.kind}, not a Whisper. {folder.way_out()}")
    network = build(folder, lambda: Whisper(outputs, WhisperConfig.from_dict(dict(folder.config)), spectrogram))
    n_bands = network.model.config.num_mel_bins
    found = folder.setting("feature_size", n_bands)
    if found != n_bands:
        raise CheckpointError(
            f"{folder.path} has a network for spectrograms of {n_bands} bands, and an extractor that makes {found}. "
            "Download it again."
        )
    return network
