"""Dense prediction: an output for every row of a table, averaged over overlapping windows."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from abaw.core.progress import Reporter, Silent
from abaw.core.read_ahead import map_ahead
from abaw.core.tasks import Task
from abaw.evaluate.evaluation import Evaluation, evaluate_predictions
from abaw.evaluate.predictions import VideoPrediction, fill_gaps
from abaw.evaluate.scores.metrics import decide, measure_names, measures_of, row_sums
from abaw.train import multi_process
from abaw.train.config import TrainConfig
from abaw.train.data.samples import ScoredSamples
from abaw.train.data.windows import WindowSampler, batches
from abaw.train.scoring import PREDICTED, OnOutputs, Scoring, ignore_outputs

BATCHES_AHEAD = 16  # a GPU computes so many before their outputs are copied, so that it does not wait for the host


def evaluate_head(
    head: nn.Module,
    table: ScoredSamples,
    window: int,
    device: torch.device,
    reporter: Reporter | None = None,
    stride: int = 0,
    on_outputs: OnOutputs = ignore_outputs,
) -> Evaluation:
    """Predict every row of a table and score the predictions; see `predict`."""
    return evaluate_predictions(table.task, predict(head, table, window, device, reporter, stride, on_outputs))


def validation_measures(
    model: nn.Module,
    table: ScoredSamples,
    config: TrainConfig,
    device: torch.device,
    reporter: Reporter,
    on_outputs: OnOutputs = ignore_outputs,
) -> dict[str, float]:
    """The official measures of a model on a table: `score`, NaN if an output is not finite, then by name.

    Names are `CCC valence`, `F1 AU1`, for a task of several parts `score va` and so on, and for classes
    `predicted Neutral`, the share of the rows for which it is predicted.
    """
    task, window = table.task, config.length
    evaluation = evaluate_head(model, table, window, device, reporter, config.eval_step, on_outputs)
    predictions = evaluation.predictions.values()
    if not all(np.isfinite(video.outputs).all() for video in predictions):
        return {"score": float("nan")}
    official = evaluation.official
    measures = _named(task, official.score, official.by_task, official.parts)
    outputs = np.concatenate([video.outputs for video in predictions])
    for part, part_outputs, _ in task.each():
        if part.kind == "classes":
            counts = np.bincount(
                decide(part, outputs[:, part_outputs])[:, 0].astype(np.int64), minlength=len(part.outputs)
            )
            measures |= {
                f"{PREDICTED} {name}": float(n) / len(outputs) for name, n in zip(part.outputs, counts, strict=True)
            }
    return measures


def _named(task: Task, score: float, by_part: Mapping[str, float], by_output: Mapping[str, float]) -> dict[str, float]:
    measures = {"score": score}
    if task.parts:
        measures |= {f"score {name}": value for name, value in by_part.items()}
    names = [f"{part.measure.short} {output}" for part, _, _ in task.each() for output in part.outputs]
    return measures | dict(zip(names, by_output.values(), strict=True))


def _sums(task: Task, outputs: NDArray, labels: NDArray) -> NDArray[np.float64]:
    """Sums over rows that can be added up: moments are around 0."""
    return row_sums(task, outputs, labels, np.zeros((2, len(task.columns))))


def _measures(task: Task, sums: NDArray[np.float64]) -> dict[str, float]:
    """The official measures of such sums, by the names of `validation_measures`."""
    values = dict(zip(measure_names(task), measures_of(task, sums[None])[0].tolist(), strict=True))
    by_part, by_output = (
        {name: values[name] for name in names} for names in ([p.name for p in task.parts], task.outputs)
    )
    return _named(task, values["score"], by_part, by_output)


SCORING = Scoring(validation_measures, _sums, _measures)


def predict(
    model: nn.Module,
    table: ScoredSamples,
    window: int,
    device: torch.device,
    reporter: Reporter | None = None,
    stride: int = 0,
    on_outputs: OnOutputs = ignore_outputs,
) -> dict[str, VideoPrediction]:
    """Predict every row of a table, or every video for a task of whole videos.

    Windows are `stride` frames apart, by default half a window, with one at the end, and the outputs of a row (or
    video) are averaged. With several processes each computes a share of the windows, and all get every prediction. The
    windows of a video end with its last row that has a feature, so its outputs do not depend on how many rows follow.
    Rows without any feature are filled by linear interpolation over time, with the nearest output at the ends of a
    video. A video (or image) without any feature gets the mean output of all others.

    Args:
        on_outputs: called with the outputs for the windows of each batch, and their targets.
    """
    outputs = _window_outputs(model, table, window, stride, device, reporter or Silent(), on_outputs)
    if table.task.level == "video":
        return _video_predictions(outputs, table)
    people = table.people or ("",) * len(table.videos)
    mean = outputs[table.has_feature if table.has_feature.any() else slice(None)].mean(axis=0)
    predictions = {}
    for i, video in enumerate(table.videos):
        rows = table.rows(i)
        has_feature, values = table.has_feature[rows], outputs[rows]
        if table.task.level == "image" or not has_feature.any():
            values = np.where(has_feature[:, None], values, mean)
        else:
            values = fill_gaps(values, has_feature)
        predictions[video] = VideoPrediction(
            *(values, table.labels[rows], table.has_face[rows], float(table.fps[i]), table.doubles_of(i), has_feature),
            person=people[i],
        )
    return predictions


def _video_predictions(outputs: NDArray[np.float32], table: ScoredSamples) -> dict[str, VideoPrediction]:
    has_feature = np.array([table.has_feature[table.rows(i)].any() for i in range(len(table.videos))])
    outputs = np.where(
        has_feature[:, None], outputs, outputs[has_feature if has_feature.any() else slice(None)].mean(axis=0)
    )
    labels, people = table.labels[table.starts[:-1]], table.people or ("",) * len(table.videos)
    return {
        video: VideoPrediction(
            *(outputs[[i]], labels[[i]], has_feature[[i]], float(table.fps[i])),
            has_feature=has_feature[[i]],
            person=people[i],
        )
        for i, video in enumerate(table.videos)
    }


def _window_outputs(
    model: nn.Module,
    table: ScoredSamples,
    window: int,
    stride: int,
    device: torch.device,
    reporter: Reporter,
    on_outputs: OnOutputs,
) -> NDArray[np.float32]:
    """(rows, outputs), or (videos, outputs) for a task of whole videos: the mean over the windows that cover each."""
    sampler, width = WindowSampler(table, window), len(table.task.outputs)
    is_whole = table.task.level == "video"
    n_slots = len(table.videos) if is_whole else len(table.labels)
    sums = _WindowSums(n_slots, width)
    model.eval()
    with torch.inference_mode():
        windows = sampler.windows(stride or max(1, window // 2), ends=None if is_whole else _ends(table))
        reporter.start("predict", len(windows), "windows")
        parts = list(batches(windows, max(1, table.rows_per_batch // window)))
        shares = [multi_process.process_share(part) for part in parts]
        read = map_ahead(sampler.batch, shares, table.n_readers)
        for part, batch_windows, batch in zip(parts, shares, read, strict=True):
            batch = batch.to(device)
            outputs = model(batch.features, batch.masks)
            on_outputs(outputs, batch.targets)
            # further outputs of a model are only for its loss
            outputs = outputs[..., :width].float()
            if is_whole:
                slots = np.where(batch_windows[:, 1] > 0, sampler.videos_of(batch_windows), n_slots)
            else:
                rows, is_inside = sampler.rows_of(batch_windows)
                slots = np.where(is_inside, rows, n_slots).ravel()
            sums.add(slots, outputs.reshape(-1, width))
            reporter.advance(len(part))
        means = sums.means(device)
        reporter.finish()
    return means


class _WindowSums:
    """Sums of outputs by slot (row or video), in host memory.

    Steps past the end of a video are in an extra slot, which is dropped.
    """

    def __init__(self, n_slots: int, width: int) -> None:
        self._total, self._counts = torch.zeros(n_slots + 1, width), torch.zeros(n_slots + 1)
        self._waiting: list[tuple[Tensor, Tensor]] = []

    def add(self, slots: NDArray[np.int64], outputs: Tensor) -> None:
        """Add outputs (n, width) on any device to their slots (n,)."""
        self._waiting.append((torch.from_numpy(slots), outputs))
        if len(self._waiting) == BATCHES_AHEAD:
            self._add_waiting()

    def means(self, device: torch.device) -> NDArray[np.float32]:
        """(slots, width) mean output of each slot over all processes; 0 without any."""
        self._add_waiting()
        multi_process.add_up(self._total, device)
        multi_process.add_up(self._counts, device)
        return (self._total[:-1] / self._counts[:-1, None].clamp(min=1)).numpy()

    def _add_waiting(self) -> None:
        for slots, outputs in self._waiting:
            self._total.index_add_(0, slots, outputs.cpu())
            self._counts.index_add_(0, slots, torch.ones(len(slots)))
        self._waiting.clear()


def _ends(table: ScoredSamples) -> NDArray[np.int64]:
    """(videos,) the row after the last one of each video that has a feature, or the end of a video that has no feature."""
    ends = table.starts[1:].copy()
    for i in range(len(ends)):
        present_rows = np.flatnonzero(table.has_feature[table.rows(i)])
        if len(present_rows):
            ends[i] = table.starts[i] + present_rows[-1] + 1
    return ends
