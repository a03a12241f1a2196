"""The numbers that a training computes in."""

from typing import Any

import torch

from abaw.core.errors import UsageError
from abaw.train.config import TrainConfig

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def check_precision(config: TrainConfig, device: torch.device) -> None:
    """Raise a UsageError for float16 without a GPU, where its steps would be slow and often fail."""
    if config.precision == "fp16" and device.type != "cuda":
        raise UsageError(
            f"precision=fp16 needs a GPU, found {device.type}. Use --set precision=bf16, or leave it out for float32."
        )


def forward_type(config: TrainConfig, device: str) -> torch.dtype:
    """What forward passes in training compute in on a kind of device, `cpu` or `cuda`."""
    return DTYPES.get(config.precision, torch.bfloat16 if device == "cuda" else torch.float32)


def autocast(config: TrainConfig, device: torch.device) -> torch.autocast:
    """The context of forward passes in training."""
    dtype = forward_type(config, device.type)
    is_mixed = dtype != torch.float32
    return torch.autocast(device.type, dtype if is_mixed else torch.bfloat16, enabled=is_mixed)


def create_scaler(config: TrainConfig, device: torch.device) -> "torch.amp.GradScaler":
    """Keeps the gradients of float16 from vanishing; does nothing in other precisions."""
    return torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")


def scaler_tensors(scaler: "torch.amp.GradScaler") -> dict[str, torch.Tensor]:
    """The state of a scaler for a checkpoint; empty for one that does nothing."""
    return {key: torch.as_tensor(value) for key, value in scaler.state_dict().items()}


def restore_scaler(scaler: "torch.amp.GradScaler", tensors: dict[str, torch.Tensor]) -> None:
    """Restore what `scaler_tensors` gave."""
    state: dict[str, Any] = {key: value.item() for key, value in tensors.items()}
    if state:
        scaler.load_state_dict(state)
