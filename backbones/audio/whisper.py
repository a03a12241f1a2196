"""The encoder of Whisper (Radford et al., 2022) of Hugging Face's transformers: a state every 20 ms.

Its input is always 30 s long. A sound up to that length is padded with silence as in transformers; the states of the
silence are dropped. A longer sound is processed in windows of 30 s, one every 20 s: of each, the states with 5 s of sound
on either side are used, and at the ends of the sound those up to the end.
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
from abaw.backbones.audio.checkpoint_keys import clean_whisper
from abaw.backbones.hidden_states import check_layers, choose_states, wants_layers
from abaw.backbones.hub_folder import HubFolder, assumed_note, build, dropped_note, fill, read_folder
from abaw.backbones.weights import file_sha256, read_tensors
from abaw.core.errors import CheckpointError
from abaw.media.frame_times import Nanoseconds, sample_times
from abaw.media.waveform import RATE_HZ, Waveform

FAMILY = "whisper"
CONTEXT_SHARE = 6  # the context on either side is a sixth of the window
BATCH_SIZES = {"cuda": 16, "cpu": 1}
STEPS = 2  # of the spectrogram for each state
# The encoder of whisper-base
BASE: dict[str, Any] = {"d_model": 512, "encoder_layers": 6, "encoder_attention_heads": 8, "encoder_ffn_dim": 2048}
# Settings of the spectrogram by transformers' names, with its defaults; the network states the number of bands
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
        """Log-mel spectrogram of the first 30 s of a sound, padded with silence: (1, bands, 3000)."""
        return self._input([samples.cpu().numpy()])

    def _input(self, sounds: Sequence[np.ndarray]) -> Tensor:
        batch = self._extractor(
            list(sounds), sampling_rate=RATE_HZ, max_length=self.n_states * self.stride, return_tensors="pt"
        )
        return batch["input_features"].to(self._device)

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """States of a batch of spectrograms, (n, 1500, width), with those of silence; of one sound (1500, width)."""
        layers = wants_layers(self.outputs)
        result = self.model(inputs, output_hidden_states=layers)
        outputs = choose_states(self.outputs, result.last_hidden_state, result.hidden_states if layers else None)
        return {name: states[0] if len(inputs) == 1 else states for name, states in outputs.items()}

    def encode(self, waveform: Waveform, middles_ns: Nanoseconds, take: Take) -> None:
        """A native frame every 20 ms, the first at the beginning of the sound."""
        n_frames = max(1, -(-len(waveform) // self.stride))
        for batch in self._batches(n_frames):
            sounds = [self._read(waveform, low) for _, _, low in batch]
            outputs = self(self._input(sounds))
            if len(batch) == 1:
                outputs = {name: states[None] for name, states in outputs.items()}
            for i, (first, last, low) in enumerate(batch):
                part = {name: states[i, first - low : last - low] for name, states in outputs.items()}
                take(sample_times(np.arange(first, last) * self.stride), on_host(part))

    def _read(self, waveform: Waveform, low: int) -> np.ndarray:
        """Samples of the window that begins with a state, up to the end of the sound."""
        start = low * self.stride
        return waveform.read(start, min(start + self.n_states * self.stride, max(len(waveform), start + 1)))

    def _batches(self, n_frames: int) -> Iterator[list[tuple[int, int, int]]]:
        """Batches of windows: the states to use of each (first, last + 1), and its first state."""
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
    """The encoder with the weights of a folder or a file, their sha256, and notes on what was changed and assumed.

    Raises:
        CheckpointError: the weights are missing or do not fit.
    """
    if not path.is_dir():
        network = Whisper(outputs)
        check_layers(outputs, network.n_layers, path)
        state, dropped = clean_whisper(read_tensors(path))
        fill(network.model, state, path, FAMILY, is_folder=False)
        note = f"Assumed that {path} is the encoder of whisper-base: a file does not say."
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
    stated = folder.setting("feature_size", n_bands)
    if stated != n_bands:
        raise CheckpointError(
            f"{folder.path} has a network for spectrograms of {n_bands} bands, and an extractor that makes {stated}. "
            "Download it again."
        )
    return network
