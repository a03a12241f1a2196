"""Every option changes something: a training with it differs from the one without, and in the way that it should."""

from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from abaw.core.errors import AbawError, UsageError
from abaw.core.progress import Silent
from abaw.core.tasks import get_task
from abaw.evaluate.trained import Selection, TrainedRun
from abaw.tests.support.stores import new_store, put_feature
from abaw.train.config import TrainConfig, make_config
from abaw.train.data.windows import WindowSampler
from abaw.train.head_options import HEADS
from abaw.train.heads import create_head
from abaw.train.loop import Trainer, fit
from abaw.train.loss_options import LOSSES
from abaw.train.model import build_model
from abaw.train.new_run import load_tables

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")

# what is trained, by the options that are tried on it: task, further options, and the option
ON_FRAMES = [
    ("va", (), "window=20"),
    ("va", (), "stride=7"),
    ("va", (), "phase=fixed"),
    ("va", (), "clips_per_video=1"),
    ("va", (), "standardise=frame"),
    ("va", (), "speed=0.5,1.5"),
    ("va", (), "balance=video"),
    ("expr", (), "balance=class"),
    ("au", (), "balance=class"),
    ("va", (), "missing=nearest"),
    ("va", (), "min_quality=0.5"),
    ("va", (), "weigh_by=quality"),
    ("expr", (), "invalid_as=Other"),
    ("va", (), "outputs=valence"),
    ("au", ("outputs=AU1,AU4",), "outputs=AU1,AU6"),
    ("va", (), "batch_size=3"),
    ("va", (), "optimizer=sgd"),
    ("va", (), "optimizer=adam"),
    ("va", (), "lr=0.02"),
    ("va", (), "weight_decay=0.9"),
    ("va", ("optimizer=adam",), "weight_decay=0.9"),
    ("va", ("optimizer=sgd",), "weight_decay=0.9"),
    ("va", ("optimizer=sgd",), "momentum=0.5"),
    ("va", (), "decay_norms=false"),
    ("va", (), "betas=0.5,0.999"),
    ("va", (), "schedule=constant"),
    ("va", (), "min_lr=0.005"),
    ("va", ("schedule=exponential",), "lr_factor=0.5"),
    ("va", ("schedule=cyclic-cosine",), "lr_epochs=1"),
    ("va", (), "lr_per=epoch"),
    ("va", (), "warmup=0.5"),
    ("va", (), "clip_norm=0.001"),
    ("va", ("optimizer=sgd",), "clip_norm=0.001"),
    ("va", (), "seed=1"),
    ("va", (), "fold=2/3"),
    ("expr", (), "views=,hflip"),
    ("expr", ("views=,hflip",), "co_train=true"),
    ("expr", ("loss.name=v-naw", "views=,hflip"), "views=hflip,"),
    ("va", (), "epochs=3"),
    *(("va", (), option) for option in ("precision=bf16", "ema=0.5")),
    ("va", (), "loss.name=ccc-bins"),
    ("va", (), "loss.moments=unbiased"),
    ("va", (), "loss.shares=1,0"),
    *(("va", (), f"loss.name={name}") for name in ("mse", "ccc-mse")),
    *(("va", ("loss.name=ccc-mse",), option) for option in ("loss.ccc=0", "loss.mse=0", "loss.shares=0,1")),
    *(("va", ("loss.name=mse",), option) for option in ("loss.shares=1,0", "loss.shares=1,2")),
    *(
        ("va", ("loss.name=ccc-bins",), option)
        for option in ("loss.bins=5", "loss.ccc=0", "loss.ce=0", "loss.assign=interval", "loss.shares=1,2")
    ),
    *(("expr", (), f"loss.name={name}") for name in ("focal", "v-naw")),
    ("expr", ("views=,hflip",), "loss.name=cotex"),
    ("expr", (), "loss.weights=inverse"),
    ("expr", (), "loss.weights=1,2,3,4,5,6,7,8"),
    ("expr", ("loss.name=focal",), "loss.gamma=0"),
    ("expr", ("loss.name=focal",), "loss.weights=inverse"),
    ("expr", ("loss.name=focal",), "loss.alpha=0.25"),
    ("au", ("loss.name=focal",), "loss.alpha=0.25"),
    ("au", ("loss.name=focal",), "loss.gamma=0"),
    ("au", ("loss.name=focal",), "loss.weights=inverse"),
    ("au", (), "loss.weights=equal"),
    ("expr", ("loss.name=v-naw", "views=,hflip"), "loss.plain=1"),
    ("expr", ("loss.name=v-naw", "views=,hflip"), "loss.weighted=1"),
    ("expr", ("loss.name=v-naw", "views=,hflip"), "loss.consistency=5"),
    ("expr", ("loss.name=v-naw", "views=,hflip"), "loss.decay=1"),
    ("expr", ("loss.name=v-naw", "views=,hflip"), "loss.weights=inverse"),
    ("expr", ("loss.name=v-naw", "views=,hflip"), "loss.through_weights=true"),
    ("expr", ("loss.name=v-naw", "views=,hflip"), "loss.divergence=logit-sum"),
    ("expr", ("loss.name=cotex", "views=,hflip"), "loss.consistency=5"),
    ("expr", ("loss.name=cotex", "views=,hflip"), "loss.unlabelled=true"),
    *(("mtl", (), f"loss.{part}=0.1") for part in ("va", "expr", "au")),
    ("mtl", (), "loss.positive_weights=equal"),
]
ENCODER_OPTIONS = (
    *("convs=32,16", "layers=1", "heads=1", "feedforward=16", "dropout=0", "input_dropout=0.7", "positions=false"),
    "output_hidden=8",
)
HEAD_OPTIONS = {
    "transformer": (
        *("dim=32", "layers=2", "heads=4", "feedforward=16", "dropout=0", "input_dropout=0.7", "positions=false"),
        *("mask_ratio=0", "mask_token=zero"),
    ),
    "linear": ("dropout=0.5", "std=0.5"),
    "mlp": ("hidden=32", "dropout=0"),
    "gru": ("dim=32", "layers=1", "dropout=0"),
    "tcn": ("kernel=5", "layers=2", "dim=32", "dropout=0"),
    "encoder": ENCODER_OPTIONS,
    "transformer-lstm": (*(option for option in ENCODER_OPTIONS if option != "layers=1"), "layers=2", "lstm_layers=2"),
    "lstm": ("hidden=16", "dim=32", "layers=2", "dropout=0"),
    "bilstm": ("hidden=16", "dim=32", "layers=2", "dropout=0"),
}
MODALITY_OPTIONS = ("dim=64", "dropout=0.9", "modality_dropout=0.9", "mask_token=zero")
OF_OUTPUTS = {  # options of a head that the others are tried with, and these; the last of some has two
    "cross-attention": (
        ("audio=f",),
        (
            *("audio=g", "segments=3", "audio_frames=all", "video_frames=middle", "attend=frames", "pool=flatten"),
            *("dim=64", "heads=2", "feedforward=64", "dropout=0.9", "feedforward_dropout=0.9", "audio_dropout=0.9"),
            *("cross_dropout=0.9", "norm_eps=0.5"),
        ),
    ),
    "gated": ((), (*MODALITY_OPTIONS, "gate=none", "layers=0", "heads=2", "feedforward=64")),
    "anchored": (
        ("anchor=f",),
        (*MODALITY_OPTIONS, "anchor=g", "residual=plain", "layers=0", "heads=2", "feedforward=64"),
    ),
    "difference": ((), (*MODALITY_OPTIONS, "differences=window", "hidden=64")),
    "mil": ((), ("hidden=64", "dropout=0.9", "pool=log-sum-exp", "attention=32", "sharpness=9")),
    "mamba": ((), ("dim=64", "layers=1", "states=4", "kernel=2", "expand=1", "bidirectional=true", "dropout=0.9")),
}
NEEDED = {"sharpness=9": "pool=log-sum-exp"}  # options that matter with another one alone
SMALL = {  # of the heads whose usual sizes are slow
    "gru": ("head.dim=16",),
    "tcn": ("head.dim=16", "head.layers=3"),
    "transformer": ("head.dim=16", "head.layers=1", "head.heads=2", "head.feedforward=32"),
    "encoder": ("head.convs=16", "head.heads=2", "head.feedforward=32"),
    "transformer-lstm": ("head.convs=16", "head.layers=1", "head.heads=2", "head.feedforward=32"),
    "lstm": ("head.dim=16",),
    "bilstm": ("head.dim=16",),
}
PROBE_OPTIONS = {
    "ridge": ("n_rows=50", "alpha=10"),
    "logistic": ("n_rows=50", "inverse_penalty=0.001", "balanced=false", "n_iterations=2"),
}
# tried below, or in tests of their own
ELSEWHERE = {
    "task",
    "task_record",
    "features",
    "head",
    "loss",
    "patience",
    "postprocess",
    "synthetic",
    "synthetic_draw",
    "frame_labels",
    "frame_weight",
    "eval_stride",
    "eval_every",
    "eval_share",
    "save_every",
}


@pytest.fixture(scope="module")
def store(lab, tmp_path_factory):
    """The lab's videos; a few frames lack features or labels, one video is shorter, and classes are not alike often."""
    made = lab.make_store(tmp_path_factory.mktemp("options") / "store.zarr", tasks=())
    rng = np.random.default_rng(3)
    for i in range(6):
        n_frames = 120 if i else 95
        x = rng.normal(size=(n_frames, lab.width)).astype(np.float32)
        present = rng.random(n_frames) < 0.9
        for feature in ("f", "g", "f@hflip"):
            made.drop(f"features/{feature}/v{i}")
            values = x + (0.3 * rng.normal(size=x.shape) if "@" in feature else 0)
            quality = np.random.default_rng(i).random(n_frames)
            put_feature(made, feature, f"v{i}", values, present, fps=30.0, quality=quality)
        expr = np.minimum(7, (np.abs(x[:, 0]) * 4)).astype(np.int8)[:, None]
        va, au = np.clip(x[:, :2] / 3, -1, 1), (x[:, :12] > 0.5).astype(np.int8)
        expr[::9], va[::11], au[::13, 2] = -1, -5, -1
        labels = {"va": va, "expr": expr, "au": au, "vgaf": np.array([[i % 3]], np.int8)}
        labels["mtl"] = np.concatenate([va, expr, au], axis=1, dtype=np.float32)
        for task, rows in labels.items():
            made.write_labels(task, f"v{i}", "train" if i < 4 else "val", rows)
    return made


def config(task: str, *settings: str, head: str = "linear") -> TrainConfig:
    values = {"task": task, "features": ("f",), "head": {"name": head}}
    return make_config(
        values, ["window=30", "stride=30", "epochs=2", "batch_size=8", "lr=0.01", *SMALL.get(head, ()), *settings]
    )


@pytest.fixture(scope="module")
def trained(lab, store, tmp_path_factory):
    """The weights after a training, in the order of their names, `trained(config)`; each config is trained once."""
    runs = tmp_path_factory.mktemp("runs")
    by_text = cache(lambda text: weights_of(lab, store, runs, TrainConfig.model_validate_json(text)))
    return lambda chosen: by_text(chosen.model_dump_json())


def weights_of(lab, store, runs, chosen: TrainConfig) -> list[torch.Tensor]:
    run = lab.start(store, runs, chosen)
    lab.train(run, store)
    name = "last" if (run.folder / "last.safetensors").exists() else "best"
    tensors, _ = lab.tensors(run.folder / f"{name}.safetensors")
    return [value for key, value in sorted(tensors.items()) if not key.startswith("optimizer.")]


def are_equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_every_option_is_tried():
    tried = {setting.split("=")[0] for _, _, setting in ON_FRAMES}
    assert {key for key in tried if "." not in key} | ELSEWHERE == set(TrainConfig.model_fields)
    of_losses = {field for options in LOSSES.values() for field in options.model_fields}
    assert {key.removeprefix("loss.") for key in tried if key.startswith("loss.")} == of_losses
    for head, options in HEADS.items():
        if head != "emma":  # which has a test of its own
            of_outputs = {name: options for name, (_, options) in OF_OUTPUTS.items()}
            given = (HEAD_OPTIONS | PROBE_OPTIONS | of_outputs)[head]
            assert {option.split("=")[0] for option in given} == set(options.model_fields) - {"name"}, head


@pytest.mark.parametrize("task", ["va", "expr"])
def test_the_same_options_give_the_same_weights(lab, store, tmp_path, trained, task):
    """Else a difference says nothing."""
    assert are_equal(trained(config(task)), weights_of(lab, store, tmp_path, config(task)))


@pytest.mark.parametrize(("task", "more", "option"), ON_FRAMES, ids=lambda value: str(value).replace(" ", ""))
def test_an_option_of_training_changes_the_weights(trained, task, more, option):
    assert not are_equal(trained(config(task, *more)), trained(config(task, *more, option)))


@pytest.mark.parametrize(
    ("head", "option"), [(head, option) for head, options in HEAD_OPTIONS.items() for option in options]
)
def test_an_option_of_a_head_changes_the_weights(trained, head, option):
    assert not are_equal(trained(config("va", head=head)), trained(config("va", f"head.{option}", head=head)))


@pytest.mark.parametrize(
    ("head", "option"), [(head, option) for head, (_, options) in OF_OUTPUTS.items() for option in options]
)
def test_an_option_of_a_head_changes_its_outputs(head, option):
    """Of a window with gaps, of a head in training, by which its dropout counts."""
    draw = torch.Generator().manual_seed(0)
    features = {name: torch.randn(1, 20, 6, generator=draw) for name in ("f", "g", "spectrogram")}
    masks = {name: torch.ones(1, 20).bool() for name in features}
    masks["f"][:, :5] = False
    base = [*OF_OUTPUTS[head][0], *([NEEDED[option]] if option in NEEDED else [])]
    outputs = []
    for options in base, [*base, option]:
        settings = ["window=20", *(f"head.{one}" for one in options)]
        chosen = make_config({"task": "vgaf", "features": tuple(features), "head": {"name": head}}, settings)
        torch.manual_seed(1)
        made = create_head(chosen.head, dict.fromkeys(features, (6,)), (3,))
        torch.manual_seed(2)
        outputs.append(made(features, masks).detach())
    assert outputs[0].shape != outputs[1].shape or not torch.allclose(*outputs)


@pytest.mark.parametrize(
    ("head", "option"), [(head, option) for head, options in PROBE_OPTIONS.items() for option in options]
)
@pytest.mark.filterwarnings("ignore:lbfgs failed")
def test_an_option_of_a_probe_changes_its_weights(trained, head, option):
    task = "va" if head == "ridge" else "expr"
    assert not are_equal(trained(config(task, head=head)), trained(config(task, f"head.{option}", head=head)))


@pytest.mark.parametrize(("option", "changes"), [("head.n_rows=50", True), ("head.n_rows=100000", False)])
def test_the_seed_chooses_the_rows_of_a_probe_that_takes_some_of_them(trained, option, changes):
    one, other = (trained(config("va", option, f"seed={seed}", head="ridge")) for seed in (0, 1))
    assert are_equal(one, other) != changes


@pytest.mark.parametrize("options", [("synthetic=0.4",), ("synthetic=0.7",), ("synthetic=1", "synthetic_draw=run")])
def test_share_of_synthetic_clips_changes_the_weights(lab, tmp_path, options):
    made = new_store(tmp_path / "s.zarr", {"f": (4,)})
    for i in range(9):
        put_feature(made, "f", f"v{i}", np.random.default_rng(i).normal(size=(10, 4)))
        split = ("train", "val", "synthetic")[i // 3]
        made.write_labels("vgaf", f"v{i}", split, np.array([[i % 3]], np.int8))
    one, other = (weights_of(lab, made, tmp_path, config("vgaf", "window=10", *more)) for more in ((), options))
    assert not are_equal(one, other)


# in the way that they should


def weights_after(run, store, n_epochs: int) -> torch.Tensor:
    """The linear head's weights from its first ones through some epochs."""
    model, tables = build_model(run), load_tables(run.config, store)
    trainer = Trainer(run.config, get_task(run.config.task), model, tables[0], CPU)
    for number in range(1, n_epochs + 1):
        trainer.run_epoch(number)
    return torch.cat([value.detach().flatten() for value in model.parameters()])


@pytest.mark.parametrize("norm", [1e-3, 0.05])
def test_a_step_is_no_longer_than_the_clipped_gradient(lab, store, tmp_path, norm):
    """One step of plain gradient descent at rate 1 is the gradient; unclipped it is longer."""
    plain = ("optimizer=sgd", "momentum=0", "weight_decay=0", "lr=1", "warmup=0", "batch_size=1000")
    steps = {}
    for clip in (norm, "inf"):
        run = lab.start(store, tmp_path, config("va", *plain, f"clip_norm={clip}"))
        steps[clip] = weights_after(run, store, 1) - weights_after(run, store, 0)
    assert float(steps["inf"].norm()) > 2 * norm
    assert float(steps[norm].norm()) == pytest.approx(norm, rel=1e-4)
    cosine = torch.dot(steps[norm], steps["inf"]) / steps[norm].norm() / steps["inf"].norm()
    assert float(cosine) == pytest.approx(1, abs=1e-5)


def test_the_usual_rate_is_reached_after_the_warm_up(lab, store, tmp_path):
    """With one step in each of ten epochs and a warm-up of .4: fifths of the rate, then half a cosine over six steps."""
    settings = ("batch_size=1000", "epochs=10", "warmup=0.4", "lr=0.1", "patience=99")
    run = lab.start(store, tmp_path, config("va", *settings))
    lab.train(run, store)
    rates = [row["lr"] for row in lab.metrics(run.folder)]
    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    assert rates[5:] == pytest.approx([0.05 * (1 + np.cos(np.pi * step / 6)) for step in range(1, 6)])


@pytest.mark.parametrize(
    ("settings", "length", "n_windows"),
    [(("stride=0",), 30, 6 + 3 * 7), ((), 30, 4 * 4), (("window=95", "stride=47"), 95, 1 + 3 * 2)],
)
def test_windows_are_as_long_and_as_far_apart_as_asked(store, settings, length, n_windows):
    """Of 95 and three times 120 frames, counted by hand; without a stride they overlap by half."""
    chosen = config("va", *settings)
    sampler = WindowSampler(load_tables(chosen, store)[0], chosen.length)
    found = sampler.windows(chosen.step)
    assert len(found) == sampler.n_windows(chosen.step) == n_windows
    assert set(found[:, 2]) == {length}


class Counted(nn.Module):
    """A model that keeps the shapes and masks that it is given in training."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.shapes: list[tuple[int, ...]] = []
        self.sums: list[float] = []
        self.n_masked = 0

    def forward(self, features, masks):
        self.shapes.append(tuple(masks["f"].shape))
        self.sums.append(float(features["f"].double().sum()))
        self.n_masked += int((~masks["f"]).sum())
        return self.model(features, masks)


def given(lab, store, tmp_path, *settings: str) -> Counted:
    """What the model was given in one epoch."""
    chosen = config("va", "epochs=1", *settings)
    run = lab.start(store, tmp_path, chosen)
    counted, table = Counted(build_model(run)), load_tables(chosen, store)[0]
    fit(chosen, get_task("va"), counted, table, lambda model, on_outputs: {"score": 0.0}, run.folder, CPU)
    return counted


def test_a_model_is_given_batches_of_the_size_and_length_that_are_asked_for(lab, store, tmp_path):
    shapes = given(lab, store, tmp_path, "window=40", "stride=40", "batch_size=5").shapes
    assert {shape[1] for shape in shapes} == {40}
    assert {shape[0] for shape in shapes[:-1]} == {5} and shapes[-1][0] <= 5
    assert 12 <= sum(shape[0] for shape in shapes) <= 16, "three or four windows from each of four videos"


def test_frames_without_a_feature_are_masked_unless_they_are_filled(lab, store, tmp_path):
    assert given(lab, store, tmp_path, "missing=mask").n_masked > 0
    assert given(lab, store, tmp_path, "missing=nearest").n_masked == 0


def test_frames_of_low_quality_are_masked_where_a_run_predicts_too(lab, store, tmp_path):
    """Of the first validation video, whose qualities are drawn in the fixture: a linear head says the same of all of them."""
    run = lab.start(store, tmp_path, config("va", "min_quality=0.5"))
    lab.train(run, store)
    is_good, present = np.random.default_rng(4).random(120) >= 0.5, store.read("f", "v4").present
    outputs = TrainedRun.open(run, "cpu").predict(store, Selection("val"))["v4"].outputs
    assert len(np.unique(outputs[present & ~is_good], axis=0)) == 1
    assert len(np.unique(outputs[present & is_good], axis=0)) == (present & is_good).sum()


def test_a_least_quality_that_no_crop_has_is_said(tmp_path):
    """Of a store without qualities, and not once one video of it has them."""
    warnings = []
    reporter = Silent()
    reporter.warn = warnings.append
    store = new_store(tmp_path / "s.zarr", {"f": (1,)})
    for video, split, quality in (("t", "train", None), ("v", "val", None), ("w", "val", np.ones(40))):
        put_feature(store, "f", video, np.ones((40, 1)), quality=quality)
        store.write_labels("va", video, split, np.zeros((40, 2), dtype=np.float32))
        if video == "v":
            load_tables(config("va", "min_quality=0.5", "window=20"), store, reporter)
    assert [text[:30] for text in warnings] == ["min_quality=0.5 masks no frame"]
    load_tables(config("va", "min_quality=0.5", "window=20"), store, reporter)
    assert len(warnings) == 1
    put_feature(store, "f", "t", np.ones((40, 1)), quality=np.full(40, 0.4))
    with pytest.raises(UsageError, match=r"a crop of quality 0\.5 or more\. Lower it with --set min_quality=0\.25"):
        load_tables(config("va", "min_quality=0.5", "window=20"), store)


def test_frames_without_an_annotation_are_trained_as_a_class_and_not_validated(store):
    """Every ninth label of a video is missing."""
    plain, filled = (load_tables(config("expr", *more), store) for more in ((), ("invalid_as=Other",)))
    missing = ~plain[0].valid[:, 0]
    assert missing.sum() == sum(-(-n // 9) for n in (95, 120, 120, 120))
    assert filled[0].valid.all() and set(filled[0].labels[missing, 0]) == {7}
    assert np.array_equal(filled[0].labels[~missing], plain[0].labels[~missing])
    assert np.array_equal(filled[1].valid, plain[1].valid) and not filled[1].valid.all()


def test_a_seed_changes_weights_windows_and_order_each(lab, store, tmp_path):
    runs = [lab.start(store, tmp_path, config("va", f"seed={seed}")) for seed in (0, 0, 1)]
    first, same, other = (weights_after(run, store, 0) for run in runs)
    assert torch.equal(first, same) and not torch.equal(first, other)
    sampler = WindowSampler(load_tables(runs[0].config, store)[0], 30)
    zero, again, one, later = (sampler.epoch(15, seed) for seed in ((0, 1), (0, 1), (1, 1), (0, 2)))
    assert np.array_equal(zero, again)
    for drawn in (one, later):
        assert {*map(tuple, drawn)} != {*map(tuple, zero)}, "other phases"


def test_a_training_draws_its_windows_by_the_seed(lab, store, tmp_path):
    """The windows that reach the model; as sets, without their order."""
    zero, again, one = (sorted(given(lab, store, tmp_path, "batch_size=1", f"seed={seed}").sums) for seed in (0, 0, 1))
    assert zero == again
    assert zero != one


DROPOUTS = [  # heads, and in how many places they drop values
    *(("transformer", 4), ("linear", 1), ("mlp", 2), ("gru", 2), ("tcn", 1), ("encoder", 4), ("cross-attention", 3)),
    *(("gated", 3), ("anchored", 3), ("difference", 2), ("mil", 2), ("mamba", 1)),
]


def dropouts_of(head: nn.Module) -> list[float]:
    """The shares of all modules that drop values, attention and recurrent networks among them."""
    found = [one.p for one in head.modules() if isinstance(one, nn.Dropout | nn.Dropout1d)]
    return found + [one.dropout for one in head.modules() if isinstance(one, nn.MultiheadAttention | nn.GRU)]


@pytest.mark.parametrize(("name", "least"), DROPOUTS)
def test_dropout_of_a_head_is_in_every_place_that_has_one(name, least):
    """As large as asked; and where it is 0 nothing is left to chance in training."""
    more = {"cross-attention": ("head.audio=f",), "transformer": ("head.mask_ratio=0",)}.get(name, ())
    if name in ("gated", "anchored", "difference"):
        more = ("head.modality_dropout=0", *(("head.anchor=f",) if name == "anchored" else ()))
    task = "vgaf" if name == "cross-attention" else "va"
    shapes = {"f": (6,), "g": (6,)}
    values = {"task": task, "features": tuple(shapes), "head": {"name": name}}
    made = {}
    for share in (0.0, 0.37):
        chosen = make_config(values, [*SMALL.get(name, ()), *more, f"head.dropout={share}"])
        made[share] = create_head(chosen.head, shapes, (3,)).train()
        found = dropouts_of(made[share])
        assert found == [share] * len(found) and len(found) >= least
    draw = torch.Generator().manual_seed(0)
    features = {feature: torch.randn(2, 20, 6, generator=draw) for feature in shapes}
    masks = {feature: torch.ones(2, 20).bool() for feature in shapes}
    trained = made[0.0](features, masks)
    assert torch.allclose(trained, made[0.0].eval()(features, masks), atol=1e-5)
    dropped = made[0.37](features, masks)
    assert not torch.allclose(dropped, made[0.37](features, masks), atol=1e-3)


def test_a_weight_of_a_class_pulls_the_answers_to_it(lab, store, tmp_path):
    """With a thousandfold weight on one class, nearly everything is answered with it."""
    for chosen in (3, 6):
        weights = ",".join("1000" if number == chosen else "1" for number in range(8))
        run = lab.start(store, tmp_path, config("expr", "epochs=6", "lr=0.1", f"loss.weights={weights}"))
        lab.train(run, store)
        tensors, _ = lab.tensors(run.folder / "last.safetensors")
        assert int(tensors["model.heads.0.output.bias"].argmax()) == chosen


def test_patience_ends_a_training(lab, store, tmp_path):
    """At a rate that moves nothing the first epoch stays the best."""
    for patience in (1, 3):
        run = lab.start(store, tmp_path, config("va", "lr=1e-30", "epochs=8", f"patience={patience}"))
        assert lab.train(run, store).n_epochs == 1 + patience


@pytest.mark.filterwarnings("ignore:overflow")
def test_an_error_names_a_rate_a_tenth_of_the_one_that_failed(lab, store, tmp_path):
    run = lab.start(store, tmp_path, config("va", "lr=1e37", "warmup=0", "batch_size=1000"))
    with pytest.raises(AbawError, match=r"--set lr=1e\+36"):
        lab.train(run, store)
