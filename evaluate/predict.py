"""Dense prediction: an output for every labelled row, by overlapping windows that are averaged."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from abaw.train.windows import Table, WindowSampler

WINDOWS_PER_BATCH = 64


@dataclass(frozen=True)
class VideoPrediction:
    """Outputs for a video beside its labels.

    Attributes:
        outputs: (rows, outputs) float32, without gaps.
        labels: (rows, columns) float32 as published.
        present: (rows,) bool, the frame has a crop (all features); the outputs of the others are filled in.
        fps: frames a second; 0 where the video has no feature at all.
    """

    outputs: NDArray[np.float32]
    labels: NDArray[np.float32]
    present: NDArray[np.bool_]
    fps: float


def predict(head: nn.Module, table: Table, window: int, device: torch.device) -> dict[str, VideoPrediction]:
    """Predict every row of a table.

    Windows overlap by half and the outputs of a row are averaged. Rows without a crop are filled by linear
    interpolation over time, with the nearest output at the ends of a video; a video without any crop gets the mean
    output of all others.
    """
    outputs = _window_outputs(head, table, window, device)
    seen_mean = outputs[table.seen if table.seen.any() else slice(None)].mean(axis=0)
    predictions = {}
    for i, video in enumerate(table.videos):
        rows = table.rows(i)
        seen = table.seen[rows]
        filled = fill_gaps(outputs[rows], seen) if seen.any() else np.broadcast_to(seen_mean, outputs[rows].shape)
        predictions[video] = VideoPrediction(filled, table.labels[rows], seen, float(table.fps[i]))
    return predictions


def _window_outputs(head: nn.Module, table: Table, window: int, device: torch.device) -> NDArray[np.float32]:
    """(rows, outputs) averaged over the windows that hold a row."""
    sampler = WindowSampler(table, window)
    windows = sampler.windows(max(1, window // 2))
    total: torch.Tensor | None = None
    counts = torch.zeros(len(table.present) + 1)
    head.eval()
    with torch.inference_mode():
        for start in range(0, len(windows), WINDOWS_PER_BATCH):
            part = windows[start : start + WINDOWS_PER_BATCH]
            batch = sampler.batch(part).to(device)
            given = head(batch.features, batch.mask).float().cpu()
            rows = torch.from_numpy(part[:, :1]) + torch.arange(window)
            # steps after the end of a video go to one extra row that is dropped
            rows = torch.where(rows < torch.from_numpy(part[:, 1:]), rows, len(counts) - 1).flatten()
            if total is None:
                total = torch.zeros(len(counts), given.shape[-1])
            total.index_add_(0, rows, given.flatten(0, 1))
            counts.index_add_(0, rows, torch.ones(len(rows)))
    assert total is not None, "a table has at least one video"
    return (total[:-1] / counts[:-1, None]).numpy()


def fill_gaps(values: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Fill rows that are not present by linear interpolation over time; the nearest value at both ends.

    Args:
        values: (rows, outputs).
        present: (rows,) bool, at least one True.
    """
    rows, places = np.arange(len(values)), np.flatnonzero(present)
    columns = [np.interp(rows, places, values[places, column]) for column in range(values.shape[1])]
    return np.stack(columns, axis=1).astype(np.float32)


def save_predictions(path: Path, predictions: Mapping[str, VideoPrediction], output_names: tuple[str, ...]) -> None:
    """Write predictions as HDF5: `/<video>/outputs`, `labels`, `present`; attributes `fps` and `outputs` (names)."""
    partial = path.with_name(path.name + ".partial")
    with h5py.File(partial, "w") as file:
        file.attrs["outputs"] = list(output_names)
        for video, found in predictions.items():
            group = file.create_group(video)
            group.attrs["fps"] = found.fps
            for name in ("outputs", "labels", "present"):
                group.create_dataset(name, data=getattr(found, name))
    partial.replace(path)


def load_predictions(path: Path) -> dict[str, VideoPrediction]:
    """Read what `save_predictions` wrote."""
    with h5py.File(path, "r") as file:
        return {
            video: VideoPrediction(
                group["outputs"][...], group["labels"][...], group["present"][...], float(group.attrs["fps"])
            )
            for video, group in file.items()
        }
