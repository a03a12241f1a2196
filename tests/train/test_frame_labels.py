"""Clips whose frames have labels, too, and frames that count by the quality of their crops, against sums by hand."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor, nn

from abaw.core.errors import AbawError, StoreError, UsageError
from abaw.core.progress import Silent
from abaw.core.tasks import TASKS
from abaw.store import FeatureStore
from abaw.tests.support.stores import new_store, put_feature
from abaw.tests.support.trainings import StopAfter
from abaw.train.config import TrainConfig, make_config
from abaw.train.data.table import Table
from abaw.train.data.windows import Further, Targets, WindowSampler
from abaw.train.loop import Trainer
from abaw.train.model import build_model
from abaw.train.new_run import load_tables
from abaw.train.runs import open_run

pytestmark = pytest.mark.usefixtures("one_thread")

N_FRAMES, WIDTH, WEIGHT = 12, 4, 0.7
SETTINGS = ("window=6", "stride=6", "phase=fixed", "batch_size=100", "lr=0.01", "epochs=3")
SHOWN = np.arange(N_FRAMES) != 2  # has a crop


def frames_of(number: int) -> NDArray[np.int8]:
    """Of the frames of clip `number`: the first has labels of all, the second of some, the third of none."""
    rows = np.random.default_rng(number).integers(0, 2, (N_FRAMES, 1)).astype(np.int8)
    rows[[] if number == 0 else slice(3, None)] = -1
    return rows


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """Three training clips and a validation clip with labels, and labels of frames of two of them and of the last."""
    made = new_store(tmp_path_factory.mktemp("frames") / "store.zarr", {"f": (WIDTH,)})
    for number in range(4):
        rng, video, split = np.random.default_rng(number), f"v{number}", "train" if number < 3 else "val"
        values, quality = rng.normal(size=(N_FRAMES, WIDTH)), rng.random(N_FRAMES) * SHOWN
        put_feature(made, "f", video, values, SHOWN, quality=quality if number != 1 else None)
        made.write_labels("ah", video, split, np.array([[number % 2]], np.int8))
        if number != 2:
            made.write_labels("ah-frames", video, split, frames_of(number))
        made.write_labels("va", video, split, np.zeros((N_FRAMES, 2), np.float32))
    return made


def config(*settings: str, task: str = "ah", head: str = "mil", frames: str = "ah-frames") -> TrainConfig:
    more = [f"frame_labels={frames}", f"frame_weight={WEIGHT}"] if frames else []
    return make_config({"task": task, "features": ("f",), "head": {"name": head}}, [*SETTINGS, *more, *settings])


def weights_by_hand() -> dict[str, NDArray[np.float64]]:
    """Quality over the mean of the labelled frames with a crop of known quality; `v1` has none, `v2` no labels."""
    quality = {number: np.random.default_rng(number) for number in range(3)}
    drawn = {number: (rng.normal(size=(N_FRAMES, WIDTH)), rng.random(N_FRAMES))[1] for number, rng in quality.items()}
    mean = drawn[0][SHOWN].mean()
    return {
        **{f"v{number}": np.where(SHOWN, drawn[number] / mean, 1) for number in (0, 2)},
        "v1": np.ones(N_FRAMES),
    }


class Given(nn.Module):
    """Gives its weights as outputs of the windows of an epoch: a step shows the gradient of each."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.outputs = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(5)))

    def forward(self, features: dict[str, Tensor], masks: dict[str, Tensor]) -> Tensor:
        return self.outputs


def gradients(chosen: TrainConfig, table: Table) -> tuple[NDArray, NDArray, NDArray[np.int64]]:
    """Outputs of one step, (windows, 1 + time, 2), the gradients of them, and the row of each frame."""
    sampler = WindowSampler(table, 6)
    windows = sampler.epoch(6, (chosen.seed, 1), phase="fixed")
    model = Given((len(windows), 7, 2))
    trainer = Trainer(chosen, TASKS["ah"], model, table, torch.device("cpu"))
    before = model.outputs.detach().clone()
    trainer.run_epoch(1)
    change = (before - model.outputs.detach()) / trainer.lr
    return before.numpy().astype(np.float64), change.numpy(), sampler.rows_of(windows)[0]


@pytest.mark.parametrize("weigh_by", ["none", "quality"])
def test_a_step_has_the_gradient_of_both_losses_and_only_labelled_frames_have_one(
    store: FeatureStore, weigh_by: str
) -> None:
    """The derivative of a cross-entropy is softmax - one-hot; of the weighted mean, times weight over their sum."""
    chosen = config(
        "optimizer=sgd", "momentum=0", "weight_decay=0", "clip_norm=inf", "warmup=0", f"weigh_by={weigh_by}"
    )
    table = load_tables(chosen, store)[0]
    outputs, found, rows = gradients(chosen, table)
    of_rows = np.concatenate([frames_of(number)[:, 0] if number < 2 else np.full(N_FRAMES, -1) for number in range(3)])
    labels = np.where(np.tile(SHOWN, 3), of_rows, -1)[rows]
    by_hand = weights_by_hand()
    weights = np.concatenate([by_hand[f"v{number}"] for number in range(3)])[rows]
    counted = (labels >= 0) * (weights if weigh_by == "quality" else 1)
    clips = rows[:, 0] // N_FRAMES % 2
    shares = np.exp(log_softmax(outputs, axis=-1))
    wanted = np.zeros_like(outputs)
    wanted[:, 0] = (shares[:, 0] - np.eye(2)[clips]) / len(rows)
    of_frames = (shares[:, 1:] - np.eye(2)[labels.clip(0)]) * counted[..., None]
    wanted[:, 1:] = WEIGHT * of_frames / counted.sum()
    np.testing.assert_allclose(found, wanted, atol=2e-5)
    assert (found[:, 1:][labels < 0] == 0).all() and 0 < (labels >= 0).sum() < labels.size / 2


@pytest.mark.parametrize("head", ["mil", "mil-maximum", "mlp"])
def test_the_loss_of_a_step_by_hand(store: FeatureStore, tmp_path, lab, head: str) -> None:  # type: ignore[no-untyped-def]
    """Outputs of frames by hand; those of clips as in evaluation, which tests of the heads compare with formulas."""
    name, _, is_maximum = head.partition("-")
    dropout = ["head.dropout=0", *(["head.pool=log-sum-exp"] if is_maximum else [])]
    chosen = config(*dropout, "epochs=1", "head.hidden=6", head=name)
    run = lab.start(store, tmp_path, chosen)
    lab.train(run, store)
    model, table = build_model(run).eval(), load_tables(chosen, store)[0]
    values = np.where(table.masks["f"][:, None], table.values["f"].astype(np.float64), 0)
    mean, std = (
        getattr(table.values["f"][table.masks["f"]].astype(np.float64), what)(axis=0) for what in ("mean", "std")
    )
    model.set_statistics({"f": torch.tensor(mean)}, {"f": torch.tensor(std)})
    state = {key.removeprefix("heads.0."): value.double().numpy() for key, value in model.state_dict().items()}
    inner, last = ("hidden.1", "output") if name == "mil" else ("layers.1", "layers.4")
    states = np.where(table.masks["f"][:, None], (values - mean) / std, 0) @ state[f"{inner}.weight"].T
    hidden = np.maximum(states + state[f"{inner}.bias"], 0)
    frames = log_softmax(hidden @ state[f"{last}.weight"].T + state[f"{last}.bias"], axis=-1)
    labels, valid = table.labels[:, 0].astype(int), np.zeros(len(values), bool)
    of_rows = np.concatenate([frames_of(number)[:, 0] if number < 2 else np.full(N_FRAMES, -1) for number in range(3)])
    valid = (of_rows >= 0) & table.masks["f"]
    batch = WindowSampler(table, 6).batch(WindowSampler(table, 6).windows(6)).to(torch.device("cpu"))
    with torch.no_grad():
        clips = log_softmax(model(batch.features, batch.masks).double().numpy(), axis=-1)
    of_clips = -clips[np.arange(len(clips)), labels[::6]].mean()
    wanted = of_clips - WEIGHT * frames[np.flatnonzero(valid), of_rows[valid]].mean()
    assert lab.metrics(run.folder)[0]["loss"] == pytest.approx(wanted, rel=1e-5)


def test_resumed_training_with_labels_of_frames_equals_an_uninterrupted_one(store, tmp_path, lab) -> None:  # type: ignore[no-untyped-def]
    chosen = config("batch_size=2", "weigh_by=quality")
    whole, stopped = (lab.start(store, tmp_path, chosen) for _ in range(2))
    lab.train(whole, store)
    with pytest.raises(KeyboardInterrupt):
        lab.train(stopped, store, StopAfter(1))
    lab.train(open_run(stopped.folder), store)
    lab.assert_same(stopped.folder, whole.folder)
    plain = lab.start(store, tmp_path, config("batch_size=2", frames=""))
    lab.train(plain, store)
    assert lab.metrics(plain.folder)[0]["loss"] != lab.metrics(whole.folder)[0]["loss"]


def test_weights_of_frames_have_mean_1_over_those_that_count(store: FeatureStore, tmp_path) -> None:  # type: ignore[no-untyped-def]
    table = load_tables(config("weigh_by=quality"), store)[0]
    assert table.weights is not None and table.frame_labels is not None
    by_hand = weights_by_hand()
    np.testing.assert_allclose(table.weights, np.concatenate([by_hand[video] for video in table.videos]), rtol=1e-6)
    counted = table.frame_labels.valid[:, 0] & table.present()
    assert table.weights[counted].mean() == pytest.approx(1, rel=1e-6)
    made = new_store(tmp_path / "s.zarr", {"f": (WIDTH,)})
    for video, split in (("t", "train"), ("v", "val")):
        put_feature(made, "f", video, np.ones((N_FRAMES, WIDTH)))
        made.write_labels("va", video, split, np.zeros((N_FRAMES, 2), np.float32))
    warnings: list[str] = []
    reporter = Silent()
    reporter.warn = warnings.append  # type: ignore[method-assign]
    plain = load_tables(config("weigh_by=quality", task="va", head="linear", frames=""), made, reporter)[0]
    assert plain.weights is None and warnings[0].startswith("weigh_by=quality weighs no frame: ")


def test_a_second_label_of_a_frame_weighs_as_its_first() -> None:
    further = Further(torch.tensor([2, 0]), torch.zeros(2, 1), torch.ones(2, 1, dtype=torch.bool))
    weights = torch.tensor([[0.5, 1.0, 2.0]])
    labels, valid = torch.tensor([[[7.0], [8.0], [9.0]]]), torch.ones(1, 3, 1, dtype=torch.bool)
    targets = Targets(labels, valid, further, weights=weights)
    outputs, found = targets.align(labels)[0][:, 0].tolist(), targets.loss_weights()
    assert found is not None
    assert list(zip(outputs, found.tolist(), strict=True)) == [(7, 0.5), (8, 1.0), (9, 2.0), (9, 2.0), (7, 0.5)]


def test_pictures_spread_over_a_clip_have_the_labels_of_their_times(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Three pictures, in the middle of each third: frames 1, 4 and 7 of nine, counted from 0. Crops are frames themselves."""
    made = new_store(tmp_path / "s.zarr", {"f": (WIDTH,)})
    frames = np.array([0, 1, 0, 0, 0, 1, 1, -1, 1], np.int8)[:, None]
    for video, marks in (("t", {"sampled": True}), ("u", {}), ("v", {})):
        put_feature(made, "f", video, np.ones((3, WIDTH)), **marks)
        made.write_labels("ah", video, "val" if video == "v" else "train", np.ones((1, 1), np.int8))
        made.write_labels("ah-frames", video, "train", frames)
    table = load_tables(config("window=3", "stride=3"), made)[0]
    assert table.frame_labels is not None
    assert table.frame_labels.valid[:, 0].tolist() == [True, True, False, True, True, True]
    assert table.frame_labels.labels[table.frame_labels.valid].tolist() == [1, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("settings", "options", "message"),
    [
        ((), {"frames": "ah-frame"}, r"but not of ah-frame\. Did you mean ah-frames\? Run `abaw extract` where"),
        (
            (),
            {"frames": "va"},
            "Task ah has the outputs Absent, Present, which frame_labels=va does not label frame by",
        ),
        (
            (),
            {"task": "va", "head": "linear"},
            "task va has no whole videos, whose frames frame_labels=ah-frames would",
        ),
        (
            ("head.audio=f",),
            {"head": "cross-attention"},
            "'cross-attention' gives one output for a whole video and none",
        ),
        (
            ("weigh_by=quality",),
            {"frames": ""},
            "task ah has labels of whole videos and no frames to weigh: set frame_lab",
        ),
        (
            ("weigh_by=quality", "loss.name=v-naw"),
            {},
            "loss v-naw cannot weigh frames: leave out weigh_by, or choose one of: cross-entropy, focal",
        ),
        (("frame_weight=0",), {}, "frame_weight: Input should be greater than 0"),
    ],
)
def test_what_does_not_fit_is_said(store: FeatureStore, settings, options, message: str, lab, tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=message):
        chosen = config(*settings, **options)
        build_model(lab.start(store, tmp_path, chosen))
        load_tables(chosen, store)


def test_labels_of_frames_that_no_clip_has_are_said(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = new_store(tmp_path / "s.zarr", {"f": (WIDTH,)})
    for video, split in (("t", "train"), ("v", "val")):
        put_feature(made, "f", video, np.ones((N_FRAMES, WIDTH)))
        made.write_labels("ah", video, split, np.ones((1, 1), np.int8))
    made.write_labels("mine", "v", "val", np.ones((N_FRAMES, 1), np.int8))
    with pytest.raises(
        AbawError, match="None of the 1 training videos has a frame with both a label of mine and a feature"
    ):
        load_tables(config(frames="mine"), made)
    made.write_labels("mine", "t", "train", np.full((N_FRAMES, 1), 7, np.int8))
    with pytest.raises(StoreError, match="The mine labels of video 't' are not rows of label as in task ah"):
        load_tables(config(frames="mine"), made)
