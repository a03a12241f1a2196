"""VGGish (Hershey et al., "CNN architectures for large-scale audio classification", 2017), 128-d every 0.24 s.

The network of Google's AudioSet embeddings with the key names of torchvggish's checkpoint. `embedding` is what the
last layer gives; `relu` is that after a ReLU, as torchvggish returns it; `pca` is Google's post-processing of
`embedding`: projected, clipped to [-2, 2], and quantised to 0..255.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from abaw.backbones.audio.audio_encoder import BATCH_SIZES, AudioEncoder, Take, on_host, tensor_of
from abaw.backbones.audio.mel import LogMel, MelSettings
from abaw.media.frame_times import Nanoseconds, sample_times
from abaw.media.waveform import Waveform

SETTINGS = MelSettings()
PATCH_STEPS = 96  # 0.96 s
HOP_STEPS = 24  # 0.24 s; the authors' patches do not overlap, but 0.96 s is coarse compared to a video frame
WIDTH = 128
CHANNELS = (64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool")
PCA_LIMIT = 2.0


class VggishNetwork(nn.Module):
    """(n, 1, 96, 64) log-mel patches -> (n, 128) before the last ReLU."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 1
        for channels in CHANNELS:
            if isinstance(channels, int):
                layers += [nn.Conv2d(width, channels, 3, padding=1), nn.ReLU()]
                width = channels
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        n_places = (PATCH_STEPS // 16) * (SETTINGS.n_mels // 16)
        self.embeddings = nn.Sequential(
            nn.Linear(n_places * width, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, WIDTH)
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Embeddings of a batch."""
        maps = self.features(patches)
        return self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))  # TensorFlow's order: channels last


class Vggish(AudioEncoder):
    """Patches of a sound through the network.

    Args:
        outputs: which of embedding, relu and pca.
        hop_steps: steps of 10 ms between patches.
    """

    pca_vectors: Tensor
    pca_means: Tensor

    def __init__(self, outputs: Sequence[str], hop_steps: int = HOP_STEPS) -> None:
        super().__init__()
        self.outputs, self.hop_steps = tuple(outputs), hop_steps
        self.mel, self.model = LogMel(SETTINGS), VggishNetwork()
        self.register_buffer("pca_vectors", torch.eye(WIDTH), persistent=False)
        self.register_buffer("pca_means", torch.zeros(WIDTH), persistent=False)

    def prepare(self, samples: Tensor) -> Tensor:
        """Patches of a sound, (n, 1, 96, 64); a shorter rest at its end is dropped."""
        steps = self.mel(samples.to(self.pca_means.device))
        return steps.unfold(0, PATCH_STEPS, self.hop_steps).transpose(1, 2)[:, None]

    def forward(self, patches: Tensor) -> dict[str, Tensor]:
        """All outputs of a batch of patches."""
        embedding = self.model(patches)
        outputs = {"embedding": embedding, "relu": embedding.relu()}
        if "pca" in self.outputs:
            projected = ((embedding - self.pca_means) @ self.pca_vectors.T).clamp(-PCA_LIMIT, PCA_LIMIT)
            outputs["pca"] = torch.round((projected + PCA_LIMIT) * (255 / (2 * PCA_LIMIT)))
        return {name: outputs[name] for name in self.outputs}

    def encode(self, waveform: Waveform, middles_ns: Nanoseconds, take: Take) -> None:
        """A native frame every hop; a shorter sound is padded with silence."""
        device = self.pca_means.device
        patch_samples = SETTINGS.n_samples(PATCH_STEPS)
        hop_samples = self.hop_steps * SETTINGS.hop
        n_patches = max(1, (len(waveform) - patch_samples) // hop_samples + 1)
        batch_size = BATCH_SIZES[device.type]
        for first in range(0, n_patches, batch_size):
            n = min(batch_size, n_patches - first)
            start = first * hop_samples
            samples = waveform.read(start, start + (n - 1) * hop_samples + patch_samples)
            outputs = self(self.prepare(tensor_of(samples, device)))
            centres = torch.arange(first, first + n).numpy() * hop_samples + patch_samples / 2
            take(sample_times(centres), on_host(outputs))
