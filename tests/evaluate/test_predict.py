"""Predictions of trained models against loops over single windows: overlaps, gaps, and outputs that are for the loss."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from abaw.core.tasks import TASKS, Task
from abaw.evaluate.inference import evaluate_head, predict
from abaw.tests.support.tables import build_table
from abaw.train.config import make_config
from abaw.train.data.table import Table
from abaw.train.model import Model

CPU = torch.device("cpu")
LENGTHS = [57, 3, 130, 1, 20]
Tensors = Mapping[str, Tensor]


def random_table(task: Task, lengths: list[int], seed: int = 0, masks: Mapping[str, np.ndarray] | None = None) -> Table:
    """Videos with a feature `face` (3,) and a feature `sound` (2, 2) of random values."""
    rng = np.random.default_rng(seed)
    n_rows = sum(lengths)
    masks = masks or {"face": rng.random(n_rows) < 0.6, "sound": rng.random(n_rows) < 0.4}
    values = {"face": rng.normal(size=(n_rows, 3)), "sound": rng.normal(size=(n_rows, 2, 2))}
    return build_table(task, lengths, values, masks, has_face=masks["face"])


class Recurrence(nn.Module):
    """Each output depends on all frames before it in the window, on both masks and on the place in the window."""

    def __init__(self, n_outputs: int, n_more: int = 0) -> None:
        super().__init__()
        self.width = n_outputs + n_more
        self.weight = torch.linspace(-1, 1, 7 * self.width).view(7, self.width)

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        joined = torch.cat([(features[name].flatten(2) * masks[name][..., None]) for name in ("face", "sound")], dim=-1)
        decay = 0.9 ** torch.arange(joined.shape[1])
        return (joined @ self.weight).cumsum(1) * decay[:, None] + masks["face"][..., None].float()


def padded_window(table: Table, first: int, end: int, length: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """A single window, cut out of the table and filled up with masked zeros."""
    last = min(first + length, end)
    missing = length - (last - first)
    features, masks = {}, {}
    for name, values in table.values.items():
        zeros = np.zeros((missing, *values.shape[1:]), dtype=np.float32)
        features[name] = torch.from_numpy(np.concatenate([values[first:last], zeros]))[None]
        masks[name] = torch.from_numpy(np.concatenate([table.masks[name][first:last], np.zeros(missing, bool)]))[None]
    return features, masks


def outputs_by_hand(model: nn.Module, table: Table, length: int, stride: int = 0) -> list[list[list[np.ndarray]]]:
    """For each row of each video the outputs of all windows that hold it, half a length apart up to the last feature."""
    found = []
    for start, stop in zip(table.starts[:-1].tolist(), table.starts[1:].tolist(), strict=True):
        has = np.flatnonzero(table.has_feature[start:stop])
        end = start + has[-1] + 1 if len(has) else stop
        last = max(start, end - length)
        begins = sorted({*range(start, last, stride or max(1, length // 2)), last})
        rows: list[list[np.ndarray]] = [[] for _ in range(stop - start)]
        for first in begins:
            with torch.no_grad():
                outputs = model(*padded_window(table, first, end, length))[0].numpy()
            for step in range(min(length, end - first)):
                rows[first + step - start].append(outputs[step])
        rows[end - start :] = [[np.full(outputs.shape[1], np.nan)]] * (stop - end)
        found.append(rows)
    return found


def fill_by_hand(values: np.ndarray, has: np.ndarray, otherwise: np.ndarray) -> np.ndarray:
    """Row by row: between the two rows that are there, in proportion; beyond them the nearest; without any, otherwise."""
    there = np.flatnonzero(has)
    filled = []
    for row in range(len(values)):
        before, after = there[there <= row], there[there >= row]
        if not len(there):
            filled.append(otherwise)
        elif not len(before) or not len(after):
            filled.append(values[(before if len(before) else after)[-1 if len(before) else 0]])
        else:
            a, b = before[-1], after[0]
            share = (row - a) / (b - a) if b > a else 0.0
            filled.append((1 - share) * values[a] + share * values[b])
    return np.array(filled)


@pytest.mark.parametrize("length", [1, 2, 7, 20, 64, 200])
@pytest.mark.parametrize("lost", [[], [1], [0, 3]], ids=lambda lost: f"lost {lost}")
def test_every_row_is_the_mean_of_its_windows_or_interpolated(length: int, lost: list[int]) -> None:
    table = random_table(TASKS["va"], LENGTHS)
    for video in lost:
        for mask in (*table.masks.values(), table.has_feature, table.has_face):
            mask[table.rows(video)] = False
    model = Recurrence(2)
    averaged = [np.array([np.mean(row, axis=0) for row in video]) for video in outputs_by_hand(model, table, length)]
    mean = np.concatenate(averaged)[table.has_feature].mean(axis=0)
    found = predict(model, table, length, CPU)
    assert list(found) == list(table.videos)
    for i, video in enumerate(table.videos):
        has = table.has_feature[table.rows(i)]
        assert not has.all() or len(has) < 4, "else nothing is interpolated"
        np.testing.assert_allclose(found[video].outputs, fill_by_hand(averaged[i], has, mean), rtol=1e-4, atol=1e-5)
        assert found[video].outputs.dtype == np.float32
        np.testing.assert_array_equal(found[video].present, table.has_face[table.rows(i)])


@pytest.mark.parametrize("stride", [1, 5, 20])
def test_windows_at_evaluation_are_stride_apart_with_one_at_the_end(stride: int) -> None:
    table = random_table(TASKS["va"], [57, 21])
    table.has_feature[:] = True
    model = Recurrence(2)
    found = predict(model, table, 20, CPU, stride=stride)
    for video, rows in zip(found.values(), outputs_by_hand(model, table, 20, stride), strict=True):
        wanted = np.array([np.mean(row, axis=0) for row in rows])
        np.testing.assert_allclose(video.outputs, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("length", [1, 7, 64, 200])
def test_rows_after_the_last_feature_change_nothing(length: int) -> None:
    table = random_table(TASKS["va"], [57, 130])
    more = [
        np.concatenate([np.arange(57), np.full(90, 186), np.arange(57, 187), [186]]),
        np.concatenate([np.ones(57), np.zeros(90), np.ones(130), [0]]).astype(bool),
    ]
    longer = replace(
        table,
        starts=np.array([0, 147, 278]),
        values={name: values[more[0]] for name, values in table.values.items()},
        masks={name: mask[more[0]] & more[1] for name, mask in table.masks.items()},
        has_feature=table.has_feature[more[0]] & more[1],
        has_face=table.has_face[more[0]] & more[1],
        labels=table.labels[more[0]],
        valid=table.valid[more[0]],
    )
    wanted, found = (predict(Recurrence(2), one, length, CPU) for one in (table, longer))
    for video, n_rows in (("v0", 57), ("v1", 130)):
        np.testing.assert_array_equal(found[video].outputs[:n_rows], wanted[video].outputs)
        last = np.flatnonzero(found[video].present | longer.has_feature[longer.rows(int(video[1]))])[-1]
        assert (found[video].outputs[last:] == found[video].outputs[last]).all()


def test_images_without_a_feature_get_the_mean_of_all_others() -> None:
    table = random_table(TASKS["lsd"], LENGTHS)
    model = Recurrence(6)
    rows = np.concatenate([[row[0] for row in video] for video in outputs_by_hand(model, table, 1)])
    rows[~table.has_feature] = rows[table.has_feature].mean(axis=0)
    found = np.concatenate([video.outputs for video in predict(model, table, 1, CPU).values()])
    np.testing.assert_allclose(found, rows, rtol=1e-4, atol=1e-5)


class WholeWindow(nn.Module):
    """One output row for a window."""

    def __init__(self) -> None:
        super().__init__()
        self.frames = Recurrence(3)

    def forward(self, features: Tensors, masks: Tensors) -> Tensor:
        return self.frames(features, masks).mean(dim=1)


@pytest.mark.parametrize("length", [7, 20, 200])
def test_video_is_the_mean_of_its_windows(length: int) -> None:
    table = random_table(TASKS["vgaf"], LENGTHS)
    for mask in (*table.masks.values(), table.has_feature):
        mask[table.rows(4)] = False
    model, wanted = WholeWindow(), []
    for start, end in zip(table.starts[:-1].tolist(), table.starts[1:].tolist(), strict=True):
        last = max(start, end - length)
        windows = [
            padded_window(table, first, end, length) for first in sorted({*range(start, last, length // 2), last})
        ]
        wanted.append(np.mean([model(*window)[0].numpy() for window in windows], axis=0))
    has = np.array([table.has_feature[table.rows(i)].any() for i in range(5)])
    assert not has.all()
    wanted = [row if there else np.array(wanted)[has].mean(axis=0) for row, there in zip(wanted, has, strict=True)]
    found = predict(model, table, length, CPU)
    np.testing.assert_allclose(np.concatenate([one.outputs for one in found.values()]), wanted, rtol=1e-4, atol=1e-5)
    assert [one.present.tolist() for one in found.values()] == [[there] for there in has.tolist()]
    assert all(one.labels.shape == (1, 1) for one in found.values())


@pytest.mark.parametrize(("task", "n_more"), [("va", 40), ("expr", 3), ("au", 1)])
def test_outputs_beyond_the_tasks_are_dropped(task: str, n_more: int) -> None:
    class Widened(nn.Module):
        def forward(self, features: Tensors, masks: Tensors) -> Tensor:
            own = Recurrence(len(TASKS[task].outputs))(features, masks)
            return torch.cat([own, torch.full((*own.shape[:-1], n_more), torch.nan)], dim=-1)

    table = random_table(TASKS[task], LENGTHS)
    wanted = predict(Recurrence(len(TASKS[task].outputs)), table, 20, CPU)
    for video, found in predict(Widened(), table, 20, CPU).items():
        np.testing.assert_array_equal(found.outputs, wanted[video].outputs)


# trained models

SHAPES = {"face": (3,), "sound": (2, 2)}


def model_of(*settings: str, task: str = "va", **values: object) -> Model:
    torch.manual_seed(0)
    config = make_config({"task": task, "features": tuple(SHAPES), **values}, settings)
    return Model(config, TASKS[task], SHAPES)


def test_bins_are_scored_by_their_expectation() -> None:
    """Against softmax and bin centres by hand, of the logits of the head inside the model."""
    model, table = model_of("loss.name=ccc-bins", "loss.bins=5", "head.name=linear"), random_table(TASKS["va"], LENGTHS)
    everything = {name: np.ones(len(mask), dtype=bool) for name, mask in table.masks.items()}
    table = random_table(TASKS["va"], LENGTHS, masks=everything)
    features = {name: torch.from_numpy(values)[None] for name, values in table.values.items()}
    masks = {name: torch.from_numpy(mask)[None] for name, mask in everything.items()}
    logits = model.eval().heads[0](features, masks)[0].detach().numpy().reshape(-1, 2, 5)
    chances = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    wanted = chances @ np.array([-1, -0.5, 0, 0.5, 1])
    found = np.concatenate([video.outputs for video in predict(model, table, 20, CPU).values()])
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_co_trained_heads_are_averaged() -> None:
    settings = ("views=a,b,c", "co_train=true", "head.name=mlp", "head.hidden=8")
    model, table = model_of(*settings, task="expr"), random_table(TASKS["expr"], LENGTHS)
    found = predict(model, table, 20, CPU)
    each = [predict(head, table, 20, CPU) for head in model.heads]
    for video in table.videos:
        wanted = np.mean([one[video].outputs for one in each], axis=0)
        np.testing.assert_allclose(found[video].outputs, wanted, atol=1e-5)
        assert not np.allclose(each[0][video].outputs, each[1][video].outputs)


@pytest.mark.parametrize("co_train", ["true", "false"])
def test_evaluation_wants_no_views(co_train: str) -> None:
    """The table has the features as they are, and nothing of how training saw them."""
    model = model_of("views=a,b", f"co_train={co_train}", "head.name=linear", task="expr")
    found = evaluate_head(model, random_table(TASKS["expr"], LENGTHS), 20, CPU)
    assert all(np.isfinite(one.outputs).all() for one in found.predictions.values())


def test_head_of_frames_gives_a_video_the_mean_of_the_frames_that_are_there() -> None:
    model, table = model_of("head.name=linear", task="vgaf"), random_table(TASKS["vgaf"], [9, 4])
    found = predict(model, table, 9, CPU)
    head = model.heads[0]
    for i, video in enumerate(table.videos):
        rows = table.rows(i)
        features = {name: torch.from_numpy(values[rows])[None] for name, values in table.values.items()}
        masks = {name: torch.from_numpy(mask[rows])[None] for name, mask in table.masks.items()}
        each = head(features, masks)[0].detach().numpy()[table.has_feature[rows]]
        np.testing.assert_allclose(found[video].outputs[0], each.mean(axis=0), atol=1e-5)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("task", sorted(TASKS))
def test_table_without_any_feature_is_predicted_all_the_same(task: str) -> None:
    nothing = {name: np.zeros(sum(LENGTHS), dtype=bool) for name in SHAPES}
    table = random_table(TASKS[task], LENGTHS, masks=nothing)
    found = predict(model_of(task=task), table, TASKS[task].window, CPU)
    assert all(np.isfinite(one.outputs).all() for one in found.values())
