"""The tensors of VGAF's clips as the authors of EmotiW's winner keep them, made by rule: values say clip and frame."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

# means and deviations of `transforms.Normalize`, from the model cards
NETWORKS = {
    "clip": ([0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}
LABELS = ("Positive", "Neutral", "Negative")


def images(n: int = 5, seed: int = 0) -> np.ndarray:
    """(n, 20, 24, 3) uint8."""
    return np.random.default_rng(seed).integers(0, 256, (n, 20, 24, 3), dtype=np.uint8)


def normalised_for(network: str, pixels: np.ndarray, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """As torchvision's ToTensor and Normalize make it: (N, 3, height, width)."""
    mean, deviation = (torch.tensor(numbers, dtype=torch.float64)[:, None, None] for numbers in NETWORKS[network])
    return ((torch.from_numpy(pixels).permute(0, 3, 1, 2).double() / 255 - mean) / deviation).to(dtype)


def spectrograms(n: int, seed: int) -> torch.Tensor:
    """(n, 1, 128, 128) float16."""
    return torch.from_numpy(np.random.default_rng(seed).normal(seed - 4, 1, (n, 1, 128, 128)).astype(np.float16))


def write_emotiw(root: Path, numbers: Sequence[int] = (5, 7), n_real: int = 3) -> list[str]:
    """Tensors of each number of frames, of `n_real` training and validation clips and 3 synthetic ones; label files.

    Clip i, in the order of the names that are returned, has `images(n, i)`, normalised for CLIP, and
    `spectrograms(n, i)`; T_1 and V_1 are positive, T_2 and V_2 neutral, and so on.
    """
    order = range(1, n_real + 1)
    for n in numbers:
        real = [f"VGAF_Tensors_all_{n}/{split}/{split[0]}_{k}.mp4" for split in ("Train", "Val") for k in order]
        for seed, name in enumerate([*real, *(f"Synthetic2661_all_{n}/{label}/clip_1.synt" for label in LABELS)]):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            torch.save(normalised_for("clip", images(n, seed)), root / f"{name}.img.{n}.pt")
            torch.save(spectrograms(n, seed), root / f"{name}.spec.{n}.pt")
    for split in ("Train", "Val"):
        lines = [f"{split[0]}_{k} {k}" for k in order]
        (root / f"{split}_labels.txt").write_text("\n".join(["Vid_name Label", *lines]) + "\n")
    return [f"{split}_{k}" for split in "TV" for k in order] + [f"{label}-clip_1" for label in LABELS]
