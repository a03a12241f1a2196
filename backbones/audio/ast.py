"""The Audio Spectrogram Transformer (Gong et al., 2021) of Hugging Face's transformers: one vector for 10 s.

A window of the network's length (10.24 s) moves on by a hop. Its log-mel spectrogram is that of Kaldi, as the feature
extractor of transformers computes it without torchaudio.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import ASTConfig, ASTModel

from abaw.backbones.audio.audio_encoder import AudioEncoder, Take, on_host, tensor_of
from abaw.backbones.audio.checkpoint_keys import ast_name, clean_ast
from abaw.backbones.audio.mel import MelSettings, mel_filters
from abaw.backbones.hub_folder import HubFolder, assumed_note, build, dropped_note, fill, read_folder
from abaw.backbones.weights import file_sha256, read_tensors
from abaw.core.errors import CheckpointError
from abaw.media.frame_times import Nanoseconds, sample_times
from abaw.media.waveform import Waveform

FAMILY = "ast"
POOLED = "pooled"
BATCH_SIZES = {"cuda": 32, "cpu": 2}
MEAN, STD = -4.2677393, 4.5689974  # of AudioSet's spectrograms
PREEMPHASIS = 0.97
POWER_FLOOR = 1.192092955078125e-07


class KaldiMel(nn.Module):
    """(samples,) -> (steps, bands): log power in mel bands from 20 to 8000 Hz, as in Kaldi.

    Each step is a frame of 25 ms that is centred at zero, emphasised in its high frequencies, and windowed (Hann).
    """

    window: Tensor
    filters: Tensor

    def __init__(self, n_bands: int) -> None:
        super().__init__()
        self.settings = MelSettings(n_mels=n_bands, low_hz=20.0, high_hz=8000.0)
        window = torch.from_numpy(np.hanning(self.settings.window))
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("filters", torch.from_numpy(mel_filters(self.settings)), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Log-mel steps of a sound of at least one frame, float32."""
        frames = samples.double().unfold(0, self.settings.window, self.settings.hop)
        frames = frames - frames.mean(dim=1, keepdim=True)
        before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
        frames = (frames - PREEMPHASIS * before) * self.window.double()
        power = torch.fft.rfft(frames, n=self.settings.n_fft).abs().square()
        return torch.log((power @ self.filters.double()).clamp(min=POWER_FLOOR)).float()


class Ast(AudioEncoder):
    """Windows of a sound through the network: `pooled`, (n, width), as transformers pools its two class tokens.

    Args:
        hop: samples between windows.
        config: of the network; None is that of ast-finetuned-audioset-10-10-0.4593.
        mean, std: of the spectrograms in training; std 0 leaves them as they are.
    """

    def __init__(self, hop: int, config: ASTConfig | None = None, mean: float = MEAN, std: float = STD) -> None:
        super().__init__()
        config = config or ASTConfig()
        self.hop, self.mean, self.std = hop, mean, std
        self.n_steps = int(config.max_length)
        self.model: Any = ASTModel(config)
        self.mel = KaldiMel(int(config.num_mel_bins))
        self.window = self.mel.settings.n_samples(self.n_steps)

    @property
    def _device(self) -> torch.device:
        return self.mel.window.device

    def prepare(self, samples: Tensor) -> Tensor:
        """Spectrograms of the windows of a sound, (n, steps, bands); a shorter sound gives one."""
        steps = self._steps(samples.to(self._device))
        if len(steps) <= self.n_steps:
            return self._filled(steps)[None]
        return self._normalised(steps.unfold(0, self.n_steps, self.hop // self.mel.settings.hop).transpose(1, 2))

    def _steps(self, samples: Tensor) -> Tensor:
        missing = max(0, self.mel.settings.window - len(samples))
        return self.mel(nn.functional.pad(samples, (0, missing)))

    def _filled(self, steps: Tensor) -> Tensor:
        """Steps of a short sound, padded with zeros at the end as in transformers."""
        return self._normalised(nn.functional.pad(steps, (0, 0, 0, self.n_steps - len(steps))))

    def _normalised(self, steps: Tensor) -> Tensor:
        return (steps - self.mean) / (2 * self.std) if self.std else steps

    def forward(self, inputs: Tensor) -> dict[str, Tensor]:
        """The vector of each window."""
        return {POOLED: self.model(inputs).pooler_output}

    def encode(self, waveform: Waveform, middles_ns: Nanoseconds, take: Take) -> None:
        """A native frame every hop, in the middle of its window; a shorter sound gives one window."""
        n_windows = max(1, (len(waveform) - self.window) // self.hop + 1)
        length = min(self.window, len(waveform))
        size = BATCH_SIZES[self._device.type]
        for first in range(0, n_windows, size):
            n = min(size, n_windows - first)
            start = first * self.hop
            samples = waveform.read(start, start + (n - 1) * self.hop + length)
            outputs = self(self.prepare(tensor_of(samples, self._device)))
            take(sample_times(np.arange(first, first + n) * self.hop + length / 2), on_host(outputs))


def load_ast(hop: int, path: Path) -> tuple[Ast, str, tuple[str, ...]]:
    """The network with the weights of a folder or a file, their sha256, and notes on what was changed and assumed.

    Raises:
        CheckpointError: the weights are missing or do not fit.
    """
    if not path.is_dir():
        network = Ast(hop)
        notes = _fill(network, read_tensors(path), path, is_folder=False)
        note = f"Assumed that {path} is an AST of base size trained on AudioSet: a file does not say."
        return network, file_sha256(path), (note, *notes)
    folder = read_folder(path)
    scaling = {"mean": folder.setting("mean", MEAN), "std": folder.setting("std", STD)}
    if not (folder.extractor or {}).get("do_normalize", True):
        scaling = {"mean": 0.0, "std": 0.0}
    network = _network(hop, folder, **scaling)
    notes = _fill(network, folder.tensors(), folder.weights, is_folder=True)
    notes += assumed_note(folder, "mean and standard deviation of AudioSet")
    return network, folder.sha256({"spectrogram": scaling}), notes


def _fill(network: Ast, state: dict[str, Tensor], where: Path, is_folder: bool) -> tuple[str, ...]:
    state, dropped = clean_ast(state)
    keys = {ast_name(key): key for key in network.model.state_dict()}  # of this version of transformers
    fill(network.model, {keys.get(key, key): value for key, value in state.items()}, where, FAMILY, is_folder)
    return dropped_note(dropped, where)


def _network(hop: int, folder: HubFolder, mean: float, std: float) -> Ast:
    if folder.kind != "audio-spectrogram-transformer":
        raise CheckpointError(f"{folder.path} is of the kind {folder.kind}, not an AST. {folder.way_out()}")
    network = build(folder, lambda: Ast(hop, ASTConfig.from_dict(dict(folder.config)), mean, std))
    config = network.model.config
    for name in ("num_mel_bins", "max_length"):
        expected, stated = getattr(config, name), folder.setting(name, getattr(config, name))
        if expected != stated:
            raise CheckpointError(
                f"{folder.path} has a network for {name} {expected}, and an extractor for {stated}. Download it again."
            )
    return network
