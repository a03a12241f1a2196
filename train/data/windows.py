"""Windows of samples, drawn by index."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from abaw.core.errors import UsageError
from abaw.train.data.frame_labels import FrameTargets
from abaw.train.data.on_device import send
from abaw.train.data.samples import Samples, counted_labels

Balance = Literal["none", "class", "video"]
Draw = Literal["epoch", "run"]
Phase = Literal["random", "fixed"]
Windows = NDArray[np.int64]  # (windows, 3): first row, end of the video, frames from the first to the last


@dataclass(frozen=True)
class Further:
    """Second labels of frames in windows.

    Attributes:
        positions: (n,) int64, index of the frame among all (windows * time) frames.
        labels, valid: (n, columns) float32 and bool.
    """

    positions: Tensor
    labels: Tensor
    valid: Tensor

    def to(self, device: torch.device) -> "Further":
        """The same on a device."""
        return Further(*(send(values, device) for values in (self.positions, self.labels, self.valid)))


@dataclass(frozen=True)
class SoftLabels:
    """Labels for a loss that are between those of annotations.

    Attributes:
        labels: (windows, time, n) float32: shares of n classes, or values from 0 to 1 of n binary labels.
        valid: bool, (windows, time, 1) or like the labels.
    """

    labels: Tensor
    valid: Tensor

    def to(self, device: torch.device) -> "SoftLabels":
        """The same on a device."""
        return SoftLabels(send(self.labels, device), send(self.valid, device))


@dataclass(frozen=True)
class Targets:
    """The labels that outputs of windows are compared with.

    Attributes:
        labels: (windows, time, columns) float32; (windows, columns) for a task of whole videos.
        valid: bool like the labels: annotated, and the frame (any frame of the video) has a feature.
        further: second labels of frames that are labelled twice; None if no frame is.
        soft: what the loss compares outputs with instead; None without. Not together with `further`.
        frames: labels of the frames of whole videos; None without.
        weights: (windows, time) float32 of the frames in the loss; None if all count alike.
    """

    labels: Tensor
    valid: Tensor
    further: Further | None
    soft: SoftLabels | None = None
    frames: FrameTargets | None = None
    weights: Tensor | None = None

    def to(self, device: torch.device) -> "Targets":
        """The same on a device."""
        further = self.further.to(device) if self.further is not None else None
        soft = self.soft.to(device) if self.soft is not None else None
        frames = self.frames.to(device) if self.frames is not None else None
        weights = send(self.weights, device) if self.weights is not None else None
        return Targets(send(self.labels, device), send(self.valid, device), further, soft, frames, weights)

    def for_loss(self, aligned: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What `align` gives, with soft labels where there are some."""
        return aligned if self.soft is None else (aligned[0], self.soft.labels, self.soft.valid)

    def loss_weights(self) -> Tensor | None:
        """The weights of the frames that `align` gives; None if all count alike."""
        if self.weights is None or self.further is None:
            return self.weights
        flat = self.weights.flatten()
        return torch.cat([flat, flat.index_select(0, self.further.positions)])

    def align(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Outputs, labels and valid flags for a loss; with further labels they are flat rows.

        Args:
            outputs: (windows, time, outputs), or with an axis of views in front.

        Returns:
            The three tensors unchanged; with further labels (rows, outputs) or (views, rows, outputs), and (rows, columns)
            twice: a frame with two labels is two rows.
        """
        if self.further is None:
            return outputs, self.labels, self.valid
        flat = outputs.flatten(-3, -2)
        return (
            torch.cat([flat, flat.index_select(-2, self.further.positions)], dim=-2),
            torch.cat([self.labels.flatten(0, 1), self.further.labels]),
            torch.cat([self.valid.flatten(0, 1), self.further.valid]),
        )


@dataclass(frozen=True)
class WindowBatch:
    """Windows of samples.

    Attributes:
        features: by name, (windows, time, *shape) as stored.
        masks: by feature, (windows, time) bool, the frame is inside the video and has the feature.
        targets: labels of the windows.
    """

    features: dict[str, Tensor]
    masks: dict[str, Tensor]
    targets: Targets

    @property
    def labels(self) -> Tensor:
        """Labels of the targets."""
        return self.targets.labels

    @property
    def valid(self) -> Tensor:
        """Valid flags of the targets."""
        return self.targets.valid

    def to(self, device: torch.device) -> "WindowBatch":
        """The batch on a device, features as float32 and whole numbers as they are; see `send`."""
        sent = {name: send(values, device) for name, values in self.features.items()}
        moved = {name: values.float() if values.is_floating_point() else values for name, values in sent.items()}
        masks = {name: send(mask, device) for name, mask in self.masks.items()}
        return WindowBatch(moved, masks, self.targets.to(device))


def _labelled_before(samples: Samples) -> NDArray[np.float64]:
    """(rows + 1,) labels of the rows before each that count."""
    rows, _, counted = counted_labels(samples)
    return np.concatenate([[0.0], np.cumsum(np.bincount(rows, counted.any(axis=1), len(samples.labels)))])


class WindowSampler:
    """Draws windows of `length` frames from samples by index, in this process; copies only the batch.

    Args:
        only_labelled: epochs leave out windows without a frame that has both a label and an input.
    """

    def __init__(self, samples: Samples, length: int, *, only_labelled: bool = False) -> None:
        self.samples, self.length = samples, length
        self._present = samples.present()
        self._n_labelled = _labelled_before(samples) if only_labelled else None

    def epoch(
        self,
        stride: int,
        seed: Sequence[int],
        balance: Balance = "none",
        synthetic: float = 0.0,
        speed: tuple[float, float] = (1.0, 1.0),
        draw: Draw = "epoch",
        phase: Phase = "random",
        clips_per_video: int = 0,
    ) -> Windows:
        """The windows of one pass over all videos, in random order.

        In each video windows start every `stride` frames from a random phase; the last ones are moved back into
        the video, and a video shorter than a window is one window.

        Args:
            phase: `fixed` starts at the first frame, always.
            clips_per_video: instead, so many windows of each video, which start anywhere; 0 for none.
            seed: same seed, same windows; its first number is that of the run.
            balance: draw the same number of windows with replacement so that every class, or every video, counts alike.
            synthetic: share of the epoch's windows from synthetic clips, equally many of each class: n real windows get
                n * synthetic / (1 - synthetic) synthetic ones.
            speed: each window covers `length` times a factor drawn from this range; a shorter one lies anywhere
                inside the original window, a longer one anywhere around it.
            draw: "run" takes the windows of one random subset of the synthetic clips in every epoch of a run: n real clips
                get n * synthetic / (1 - synthetic), rounded to a multiple of 3; a share of 1 is all of them, and no real one.
        """
        rng = np.random.default_rng(list(seed))
        if clips_per_video:
            windows = self._clips(clips_per_video, rng)
        else:
            windows = self.windows(stride, rng if phase == "random" else None)
        windows = self._labelled(windows)
        is_synthetic = self.samples.synthetic[self.videos_of(windows)]
        windows, synthetic_windows = windows[~is_synthetic], windows[is_synthetic]
        if balance != "none":
            weights = self._class_weights(windows) if balance == "class" else self._video_weights(windows)
            windows = windows[rng.choice(len(windows), len(windows), p=weights / weights.sum())]
        if draw == "run":
            chosen = self._draw_clips(synthetic, seed[0])[self.videos_of(synthetic_windows)]
            windows = np.concatenate([windows[: 0 if synthetic == 1 else None], synthetic_windows[chosen]])
        elif synthetic:
            n_synthetic = round(len(windows) * synthetic / (1 - synthetic))
            windows = np.concatenate([windows, self._draw_per_class(synthetic_windows, n_synthetic, rng)])
        if speed != (1.0, 1.0):
            windows = self._change_speed(windows, rng.uniform(*speed, len(windows)), rng.random(len(windows)))
        return windows[rng.permutation(len(windows))]

    def n_windows(
        self, stride: int, synthetic: float = 0.0, draw: Draw = "epoch", seed: int = 0, clips_per_video: int = 0
    ) -> int:
        """Windows of an epoch of the run with a seed."""
        drawn = self._clips(clips_per_video, np.random.default_rng(seed)) if clips_per_video else None
        windows = self._labelled(self.windows(stride) if drawn is None else drawn)
        videos = self.videos_of(windows)
        n_real = int((~self.samples.synthetic[videos]).sum())
        if draw == "run":
            return (0 if synthetic == 1 else n_real) + int(self._draw_clips(synthetic, seed)[videos].sum())
        return n_real + (round(n_real * synthetic / (1 - synthetic)) if synthetic else 0)

    def windows(
        self, stride: int, rng: np.random.Generator | None = None, ends: NDArray[np.int64] | None = None
    ) -> Windows:
        """Windows `stride` apart, covering every row, or those before `ends`; `rng` draws the phases.

        Args:
            ends: (videos,) the row after the last requested one of each video.
        """
        windows = []
        for first, end in zip(self.samples.starts[:-1], self.samples.starts[1:] if ends is None else ends, strict=True):
            last = max(first, end - self.length)
            phase = int(rng.integers(stride)) if rng is not None else 0
            first_rows = np.unique(np.append(np.arange(first - phase, last, stride), last).clip(first, last))
            windows.append(
                np.stack([first_rows, np.full_like(first_rows, end), np.full_like(first_rows, self.length)], axis=1)
            )
        return np.concatenate(windows)

    def _labelled(self, windows: Windows) -> Windows:
        """The windows that an epoch may have; see the class."""
        total = self._n_labelled
        if total is None:
            return windows
        ends = np.minimum(windows[:, 0] + self.length, windows[:, 1])
        return windows[total[ends] > total[windows[:, 0]]]

    def _clips(self, n_each: int, rng: np.random.Generator) -> Windows:
        """Windows that start anywhere in a video, so many of each."""
        first, end = (np.repeat(rows, n_each) for rows in (self.samples.starts[:-1], self.samples.starts[1:]))
        first = rng.integers(first, np.maximum(first, end - self.length), endpoint=True)
        return np.stack([first, end, np.full_like(first, self.length)], axis=1)

    def videos_of(self, windows: Windows) -> NDArray[np.int64]:
        """(windows,) video number of each window."""
        return np.searchsorted(self.samples.starts, windows[:, 0], side="right") - 1

    def rows_of(self, windows: Windows) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """(windows, time) rows of the samples, and whether each is inside its video."""
        steps = np.linspace(0.0, 1.0, self.length) if self.length > 1 else np.zeros(1)
        rows = windows[:, :1] + np.rint(steps * (windows[:, 2:] - 1)).astype(np.int64)
        return np.minimum(rows, windows[:, 1:2] - 1).clip(min=0), rows < windows[:, 1:2]

    def batch(self, windows: Windows) -> WindowBatch:
        """The batch of some windows."""
        rows, inside = self.rows_of(windows)
        features, masks = self.samples.inputs(rows, inside)
        return WindowBatch(features, masks, self._targets_at(rows, inside))

    def targets(self, windows: Windows) -> Targets:
        """Targets of the batch of some windows."""
        return self._targets_at(*self.rows_of(windows))

    def _targets_at(self, rows: NDArray[np.int64], inside: NDArray[np.bool_]) -> Targets:
        counted = self._present.take(rows) & inside
        labels = self.samples.labels.take(rows, axis=0)
        valid = self.samples.valid.take(rows, axis=0) & counted[..., None]
        frames, of_rows = self.samples.frame_labels, self.samples.weights
        weights = None if of_rows is None else torch.from_numpy(of_rows.take(rows))
        of_frames = None if frames is None else replace(frames.at(rows, counted), weights=weights)
        if self.samples.task.level == "video":
            labels, valid, weights = labels[:, 0], np.asarray(valid.any(axis=1)), None
        further, soft = self._further_at(rows, inside), None
        if self.samples.shares is not None:
            soft = SoftLabels(torch.from_numpy(self.samples.shares.take(rows, axis=0)), torch.from_numpy(valid))
        return Targets(torch.from_numpy(labels), torch.from_numpy(valid), further, soft, of_frames, weights)

    def _further_at(self, rows: NDArray[np.int64], inside: NDArray[np.bool_]) -> Further | None:
        """The doubles of frames in windows, repeated for every window that contains the frame."""
        doubles, rows = self.samples.doubles, rows.ravel()
        if doubles is None:
            return None
        first, end = (np.searchsorted(doubles.rows, rows, side=side) for side in ("left", "right"))
        counts = (end - first) * inside.ravel()
        if not counts.any():
            return None
        positions = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(positions)) - np.repeat(np.cumsum(counts) - counts, counts)
        labels = doubles.labels[np.repeat(first, counts) + within]
        valid = self.samples.task.valid(labels) & self._present.take(rows[positions])[:, None]
        return Further(torch.from_numpy(positions), torch.from_numpy(labels), torch.from_numpy(valid))

    def _change_speed(self, windows: Windows, factors: NDArray[np.float64], positions: NDArray[np.float64]) -> Windows:
        spans = np.maximum(1, np.rint(self.length * factors).astype(np.int64))
        # if they always started at the first frame, shorter windows would rarely reach the end of their video
        room = np.minimum(self.length, windows[:, 1] - windows[:, 0]) - spans
        first = windows[:, 0] + np.floor(positions * (room + 1)).astype(np.int64)
        video_starts = self.samples.starts[self.videos_of(windows)]
        first = np.maximum(np.minimum(first, windows[:, 1] - spans), video_starts)
        return np.stack([first, windows[:, 1], spans], axis=1)

    def _video_weights(self, windows: Windows) -> NDArray[np.float64]:
        videos = self.videos_of(windows)
        return 1 / np.bincount(videos)[videos]

    def _class_weights(self, windows: Windows) -> NDArray[np.float64]:
        """(windows,) sum over its frames of the inverse frequency of their classes (or active units)."""
        rarity = np.zeros(len(self.samples.labels))
        # all windows are of real videos, so only the labels of these count
        is_real = np.repeat(~self.samples.synthetic, np.diff(self.samples.starts))
        rows, labels, counted = counted_labels(self.samples)
        counted &= is_real[rows, None]
        for part, _, columns in self.samples.task.each():
            part_labels, part_counted = labels[:, columns], counted[:, columns]
            if part.kind == "classes":
                classes = part_labels[part_counted].astype(np.int64)
                shares = 1 / np.bincount(classes, minlength=len(part.outputs))[classes]
                rarity += np.bincount(rows[part_counted[:, 0]], shares, len(rarity))
            elif part.kind == "binary":
                active = (part_labels == 1) & part_counted
                shares = (active / np.maximum(1, active.sum(axis=0))).sum(axis=1)
                rarity += np.bincount(rows, shares, len(rarity))
        if not rarity.any():
            raise UsageError(
                f"Task {self.samples.task.name} has no classes to balance. Use --set balance=video or balance=none."
            )
        total = np.concatenate([[0.0], np.cumsum(rarity)])
        weights = total[np.minimum(windows[:, 0] + self.length, windows[:, 1])] - total[windows[:, 0]]
        return np.maximum(weights, 0.0)

    def _draw_clips(self, share: float, seed: int) -> NDArray[np.bool_]:
        """(videos,) True for a random subset of the synthetic clips; same seed, same clips.

        Their number is that of `build_train_dataset` in the code of EmotiW's winner (Augusma et al., 2023).
        """
        clips = np.flatnonzero(self.samples.synthetic)
        n_real = len(self.samples.synthetic) - len(clips)
        n_clips = len(clips) if share == 1 else 3 * round(n_real * share / (1 - share) / 3)
        if n_clips > len(clips):
            raise UsageError(
                f"synthetic={share:g} takes {n_clips:,} synthetic clips next to {n_real:,} real ones, and there are "
                f"{len(clips):,}. Make more with `abaw synth`, or train with --set synthetic_draw=epoch, which repeats clips."
            )
        chosen = np.zeros(len(self.samples.synthetic), dtype=np.bool_)
        chosen[np.random.default_rng(seed).permutation(clips)[:n_clips]] = True
        return chosen

    def _draw_per_class(self, windows: Windows, n_windows: int, rng: np.random.Generator) -> Windows:
        """Synthetic windows, equally many of each class that occurs; each once before any repeats."""
        classes = self.samples.labels[windows[:, 0], 0]
        kinds = np.unique(classes)
        drawn = []
        for number, kind in enumerate(kinds):
            of_class = windows[classes == kind]
            n_drawn = (n_windows + number) // len(kinds)
            rounds = [rng.permutation(len(of_class)) for _ in range(-(-n_drawn // len(of_class)))]
            drawn.append(of_class[np.concatenate(rounds)[:n_drawn]] if rounds else of_class[:0])
        return np.concatenate(drawn)


def batches(windows: Windows, batch_size: int) -> Iterator[Windows]:
    """Windows in batches; the last one may be smaller."""
    for start in range(0, len(windows), batch_size):
        yield windows[start : start + batch_size]


def share(windows: Windows, rank: int, n_ranks: int) -> Windows:
    """One process's part of a batch: equal sizes, padded with empty windows in which nothing is valid."""
    n_each = -(-len(windows) // n_ranks)
    empty = np.tile(np.array([0, 0, 1]), (n_each * n_ranks - len(windows), 1))
    return np.concatenate([windows, empty])[rank * n_each : (rank + 1) * n_each]


def class_counts(samples: Samples) -> Mapping[str, int]:
    """How often each class, or each active unit, occurs among the labels that count; empty for other tasks."""
    counts: dict[str, int] = {}
    _, all_labels, all_counted = counted_labels(samples)
    for part, _, columns in samples.task.each():
        labels, valid = all_labels[:, columns], all_counted[:, columns]
        if part.kind == "classes":
            totals = np.bincount(labels[valid].astype(np.int64), minlength=len(part.outputs))
        elif part.kind == "binary":
            totals = ((labels == 1) & valid).sum(axis=0)
        else:
            continue
        counts |= {name: int(count) for name, count in zip(part.outputs, totals, strict=True)}
    return counts
