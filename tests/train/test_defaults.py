"""Every default that documents, benchmarks and earlier runs rest on, written out by hand.

A change here is a change of what people get without asking for it: it belongs into the notes of a release, and what
was measured with the old value has to be measured again.
"""

import inspect
from dataclasses import MISSING, fields
from pathlib import Path

import click
import numpy as np
import pytest

from abaw import pipeline
from abaw.cli import main
from abaw.core.tasks import TASKS
from abaw.datasets.demo.kinds import DEMO_KINDS
from abaw.datasets.synth.clips_writer import write_clips
from abaw.datasets.synth.paths import SynthOptions
from abaw.evaluate.combining import combine
from abaw.evaluate.ensemble import create_ensemble, find_results
from abaw.evaluate.postprocessing.postprocess import SEARCH_FRAMES, TAUS, WIDTHS, Postprocess
from abaw.evaluate.postprocessing.smoothing import KINDS, MAX_WIDTH, Smoothing
from abaw.evaluate.postprocessing.thresholds import LARGEST_CUT
from abaw.evaluate.postprocessing.tuning import N_FOLDS
from abaw.evaluate.results import run_results
from abaw.evaluate.scores.bootstrap import CONFIDENCE, FEW_UNITS, MIN_UNITS, N_DRAWS
from abaw.evaluate.scores.calibration import MISSING_EDGES, N_BINS
from abaw.evaluate.submission.formats import DIGITS
from abaw.evaluate.trained import OpenEnsemble, TrainedRun, find_predictor, open_predictor
from abaw.extract.cluster.cluster import ClusterOptions, LocalCluster, SlurmCluster
from abaw.extract.faces.prepare import PrepareOptions
from abaw.extract.request import BATCH_SIZES, ExtractOptions
from abaw.predict.input_files import PredictOptions
from abaw.predict.videos import predict_video
from abaw.train.config import TrainConfig, make_config
from abaw.train.data.feature_clocks import CLOCK_TOLERANCE
from abaw.train.data.windows import WindowSampler
from abaw.train.fit_probes import NEVER
from abaw.train.head_options import HEADS
from abaw.train.loss_options import LOSSES
from abaw.train.losses.class_weights import HIGHEST
from abaw.train.losses.regression import EPSILON, PUBLISHED_EPSILON

TRAINING = {
    "head": {
        **{"name": "transformer", "dim": 128, "layers": 2, "heads": 4, "feedforward": 256},
        **{"dropout": 0.2, "input_dropout": None, "positions": True, "mask_ratio": 0.3, "mask_token": "learned"},
    },
    "task_record": None,
    "outputs": (),
    "views": (),
    "co_train": False,
    "invalid_as": "",
    "missing": "mask",
    "min_quality": 0.0,
    "weigh_by": "none",
    "frame_labels": "",
    "frame_weight": 1.0,
    "window": 0,
    "stride": 0,
    "phase": "random",
    "clips_per_video": 0,
    "eval_stride": 0,
    "standardise": "train",
    "speed": (1.0, 1.0),
    "balance": "none",
    "synthetic": 0.0,
    "synthetic_draw": "epoch",
    "fold": "",
    "epochs": 30,
    "batch_size": 16,
    "optimizer": "adamw",
    "lr": 0.001,
    "weight_decay": 0.05,
    "decay_norms": True,
    "momentum": 0.9,
    "betas": (0.9, 0.999),
    "schedule": "cosine",
    "warmup": 0.1,
    "min_lr": 0.0,
    "lr_factor": 0.1,
    "lr_epochs": 10,
    "lr_per": "step",
    "precision": "auto",
    "ema": 0.0,
    "clip_norm": 1.0,
    "eval_every": 1.0,
    "eval_share": 1.0,
    "save_every": 0.0,
    "patience": 10,
    "seed": 0,
    "postprocess": {"smoothing": {}, "thresholds": {}, "bias": {}, "fit_bias": "", "prefer": ""},
}
ENCODER = {
    **{"convs": (1024, 512), "layers": 4, "heads": 4, "feedforward": 512, "dropout": 0.3, "input_dropout": None},
    **{"positions": True, "output_hidden": 0},
}
LSTM = {"hidden": (), "dim": 256, "layers": 1, "dropout": 0.3}
MODALITIES = {"dim": 128, "dropout": 0.2, "modality_dropout": 0.2, "mask_token": "learned"}
OF_HEADS = {
    "transformer": TRAINING["head"],
    "linear": {"name": "linear", "dropout": 0.0, "std": 0.0},
    "mlp": {"name": "mlp", "hidden": (256,), "dropout": 0.3},
    "gru": {"name": "gru", "dim": 128, "layers": 2, "dropout": 0.3},
    "tcn": {"name": "tcn", "kernel": 3, "layers": 5, "dim": 128, "dropout": 0.3},
    "encoder": {"name": "encoder", **ENCODER},
    "transformer-lstm": {"name": "transformer-lstm", **ENCODER, "lstm_layers": 1},
    "lstm": {"name": "lstm", **LSTM},
    "bilstm": {"name": "bilstm", **LSTM},
    "emma": {"name": "emma", "vit": "mae-cls", "dan": "dan", "vit_hidden": 512, "va_hidden": 256},
    "cross-attention": {
        **{"name": "cross-attention", "audio": "spectrogram", "segments": 5, "audio_frames": "middle"},
        **{"video_frames": "all", "attend": "segments", "pool": "mean", "dim": 1024, "heads": 1, "feedforward": 2048},
        **{"dropout": 0.1, "feedforward_dropout": None, "audio_dropout": None, "cross_dropout": None, "norm_eps": 1e-5},
    },
    "gated": {"name": "gated", **MODALITIES, "gate": "sigmoid", "layers": 2, "heads": 4, "feedforward": 256},
    "anchored": {
        **{"name": "anchored", **MODALITIES, "anchor": "text", "residual": "gated"},
        **{"layers": 2, "heads": 4, "feedforward": 256},
    },
    "difference": {"name": "difference", **MODALITIES, "differences": "frame", "hidden": 128},
    "mil": {
        **{"name": "mil", "hidden": (256,), "dropout": 0.3},
        **{"pool": "attention", "attention": 64, "sharpness": 4.0},
    },
    "mamba": {
        **{"name": "mamba", "dim": 128, "layers": 2, "states": 16, "kernel": 4, "expand": 2},
        **{"bidirectional": False, "dropout": 0.2},
    },
    "ridge": {"name": "ridge", "n_rows": 200_000, "alpha": 0.01},
    "logistic": {
        **{"name": "logistic", "n_rows": 200_000, "inverse_penalty": 100.0},
        **{"balanced": True, "n_iterations": 300},
    },
}
OF_LOSSES = {
    "ccc": {"name": "ccc", "shares": (), "moments": "population"},
    "ccc-bins": {"name": "ccc-bins", "bins": 20, "assign": "nearest", "shares": (), "ccc": 0.5, "ce": 0.5},
    "ccc-mse": {"name": "ccc-mse", "shares": (), "ccc": 1.0, "mse": 1.0},
    "mse": {"name": "mse", "shares": ()},
    "cross-entropy": {"name": "cross-entropy", "weights": "equal"},
    "focal": {"name": "focal", "gamma": 2.0, "alpha": None, "weights": "equal"},
    "bce": {"name": "bce", "weights": "inverse"},
    "v-naw": {
        **{"name": "v-naw", "plain": 0.5, "weighted": 0.5, "consistency": 0.4},
        **{"decay": 15.0, "weights": "equal", "through_weights": False, "divergence": "jensen-shannon"},
    },
    "cotex": {"name": "cotex", "consistency": 100.0, "unlabelled": False},
    "emma": {"name": "emma", "va": 1.0, "expr": 1.0, "au": 1.0, "positive_weights": "inverse"},
}
# loss, window, level, and the value of a label that is not there
OF_TASKS = {
    "va": ("ccc", 100, "frame", (-5.0,) * 2),
    "expr": ("cross-entropy", 100, "frame", (-1.0,)),
    "au": ("bce", 100, "frame", (-1.0,) * 12),
    "mtl": ("emma", 100, "frame", (-5.0,) * 2 + (-1.0,) * 13),
    "lsd": ("cross-entropy", 1, "image", (-1.0,)),
    "vgaf": ("cross-entropy", 75, "video", (-1.0,)),
    "ah": ("cross-entropy", 75, "video", (-1,)),
    "ah-frames": ("cross-entropy", 100, "frame", (-1,)),
    "vd": ("cross-entropy", 100, "frame", (-1,)),
    "emi": ("mse", 75, "video", (-1,) * 6),
    "ce": ("cross-entropy", 100, "frame", (-1,)),
    "mer": ("cross-entropy", 75, "video", (-1,)),
    "engagement": ("mse", 75, "video", (-1,)),
}


def test_defaults_of_training():
    found = make_config({"task": "va", "features": ("f",)}).model_dump()
    assert found == {**TRAINING, "task": "va", "features": ("f",), "loss": OF_LOSSES["ccc"]}
    assert list(TrainConfig.model_fields) == list(found)


def test_defaults_of_every_head():
    found = {name: options().model_dump() for name, options in HEADS.items()}
    assert found == OF_HEADS


def test_defaults_of_every_loss():
    assert {name: options().model_dump() for name, options in LOSSES.items()} == OF_LOSSES


def test_losses_fit_the_kinds_of_tasks_that_they_are_for():
    kinds = {name: (entry.kinds, entry.min_views) for name, entry in LOSSES.items()}
    assert kinds == {
        "ccc": (("regression",), 1),
        "ccc-bins": (("regression",), 1),
        "ccc-mse": (("regression",), 1),
        "mse": (("regression",), 1),
        "cross-entropy": (("classes",), 1),
        "focal": (("classes", "binary"), 1),
        "v-naw": (("classes",), 1),
        "cotex": (("classes",), 2),
        "bce": (("binary",), 1),
        "emma": (("multi",), 1),
    }


def test_defaults_of_every_task():
    assert {name: (task.loss, task.window, task.level, task.invalid_row) for name, task in TASKS.items()} == OF_TASKS
    for name, (loss, window, _, _) in OF_TASKS.items():
        found = make_config({"task": name, "features": ("f",)})
        assert (found.loss.name, found.length, found.step) == (loss, window, max(1, window // 2))
    assert [name for name, task in TASKS.items() if task.measure.pooled == "all"] == ["vgaf"]
    assert [name for name, task in TASKS.items() if task.measure.pooled == "weighted"] == ["mer"]


def test_numbers_inside_losses_and_fits():
    assert (EPSILON, PUBLISHED_EPSILON, HIGHEST, NEVER) == (1e-8, 1e-4, 50.0, -30.0)
    assert CLOCK_TOLERANCE == (0.1, 0.01)


def test_numbers_of_post_processing_and_of_intervals():
    assert WIDTHS == (5, 11, 21, 41, 61, 101, 151, 201)
    assert KINDS == ("box", "gaussian", "median", "savgol")
    assert (SEARCH_FRAMES, LARGEST_CUT, MAX_WIDTH, N_FOLDS) == (300_000, 9.0, 1001, 3)
    np.testing.assert_allclose(TAUS, [number / 10 for number in range(-10, 21)])
    assert Smoothing().model_dump() == {"kind": "box", "width": 1}
    assert Postprocess().model_dump() == {"smoothing": {}, "thresholds": {}, "offsets": {}}
    assert (N_DRAWS, CONFIDENCE, MIN_UNITS, FEW_UNITS) == (10_000, 0.95, 4, 20)
    assert (N_BINS, MISSING_EDGES, DIGITS) == (10, (0.0, 0.05, 0.2, 0.5), 6)


def defaults_of(options: type) -> dict[str, object]:
    return {field.name: field.default for field in fields(options) if field.default is not MISSING}


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (
            ExtractOptions,
            {
                **{
                    "views": (),
                    "n_views": 1,
                    "device": "auto",
                    "precision": "auto",
                    "decoder": "auto",
                    "batch_size": 0,
                },
                **{
                    "fps": None,
                    "untrained": False,
                    "part": "",
                    "limit": 0,
                    "n_frames": 0,
                    "tensors": "",
                    "compile": False,
                    "tasks": (),
                    "people": "",
                    "identity": "",
                    "keep_crops": None,
                    "faces": "",
                    "detector": "",
                    "transcripts": "",
                },
            },
        ),
        (PrepareOptions, {"faces": 0, "detector": "mtcnn", "every": 0, "device": "auto", "identity": ""}),
        (
            PredictOptions,
            {
                **{"files": (), "out": Path("predictions"), "backbones": (), "faces": 0, "overlay": True},
                **{"raw": False, "untrained": False, "device": "auto", "identity": ""},
            },
        ),
        (
            SynthOptions,
            {
                **{"seed": 0, "n_frames": 75, "side_px": 326, "base_px": 350, "min_scale": 0.10, "max_scale": 0.15},
                **{"min_faces": 3, "max_faces": 15, "rotate_probability": 0.5, "max_angle_deg": 45.0},
                **{"max_overlap": 0.001, "margin_px": 30, "margin_growth_px": 1},
                **{"motion": "frame", "squash": True, "stretch": True},
            },
        ),
        (ClusterOptions, {"address": "", "file": None}),
    ],
)
def test_defaults_of_options(options, wanted):
    assert defaults_of(options) == wanted


def test_batches_of_extraction():
    assert BATCH_SIZES == {"cuda": 256, "cpu": 32}


def test_defaults_of_clusters():
    assert LocalCluster().model_dump() == {"kind": "local", "workers": 2, "threads": 1, "gpus": (), "stall_s": 600.0}
    assert SlurmCluster(kind="slurm").model_dump() == {
        **{"kind": "slurm", "jobs": 4, "queue": None, "account": None, "walltime": "04:00:00", "cores": 8},
        **{"memory": "32GB", "gpus": 1, "logs": Path("slurm-logs"), "prologue": (), "directives": (), "stall_s": 600.0},
    }


def test_heads_of_the_demos():
    assert {kind: made.heads for kind, made in DEMO_KINDS.items()} == {
        "aff-wild2": {"va": "transformer", "expr": "transformer", "au": "transformer"},
        "lsd": {"lsd": "mlp"},
        **{task: {task: "transformer"} for task in ("vgaf", "ah", "vd", "emi", "mer", "engagement")},
        "ce": {"expr": "transformer"},
        "stills": {},
    }


PLACES = {"store": "store.zarr", "runs": "runs"}
OF_COMMANDS = {
    "check-submission": {},
    "compare": {"split": "val", "runs": "runs"},
    "demo": {"out": "demo", "size": "small", "seed": 0, "kind": "aff-wild2", "device": "auto"},
    "doctor": {"data": "data", "people": ""},
    "ensemble": {"split": "val", "runs": "runs"},
    "eval": {"split": "val", "data": "data", "device": "auto", **PLACES},
    "extract": {
        **{"data": "data", "store": "store.zarr", "n_views": 1, "device": "auto", "people": ""},
        **{"precision": "auto", "part": "", "scheduler": "", "decoder": "auto", "source": "crops"},
        "transcripts": "",
    },
    "finetune": {"n_seeds": 1, "device": "auto", "data": "data", "runs": "runs"},
    **{
        key: {}
        for key in ("list backbones", "list detectors", "list heads", "list layouts", "list losses", "list published")
    },
    **{key: {} for key in ("list recipes", "list tasks")},
    "list runs": {"runs": "runs"},
    "export": {"runs": "runs"},
    "predict": {"out": "predictions", "runs": "runs", "device": "auto"},
    "prepare": {"data": "data", "detector": "mtcnn", "device": "auto"},
    "report": {"split": "val", "out": "report.html", "runs": "runs", "data": "data"},
    "store export": {"store": "store.zarr", "form": "h5"},
    "store import": {"store": "store.zarr"},
    "store info": {"path": "store.zarr"},
    "store pack": {"path": "store.zarr"},
    "store repair": {"path": "store.zarr"},
    "store verify": {"path": "store.zarr"},
    "submit": {"data": "data", "device": "auto", **PLACES},
    "run": {"n_seeds": 1, "device": "auto", "data": "data", **PLACES},
    "synth": {
        **{"out": "data/synthetic", "kind": "mp4", "seed": 0, "n_frames": 75, "side_px": 326, "base_px": 350},
        **{"min_faces": 3, "max_faces": 15, "margin_px": 30, "margin_growth_px": 1, "motion": "frame"},
        **{"squash": True, "stretch": True},
    },
    "train": {"n_seeds": 1, "device": "auto", **PLACES},
    "tune": {"fit_on": "auto", "device": "auto", **PLACES},
    "weights check": {},
    "weights get": {},
    "weights list": {},
}


def commands(group: click.Group, before: str = "") -> dict[str, click.Command]:
    found = {}
    for name in group.list_commands(click.Context(group)):
        command = group.get_command(click.Context(group), name)
        found |= commands(command, f"{name} ") if isinstance(command, click.Group) else {f"{before}{name}": command}
    return found


def test_defaults_of_every_command():
    """Flags are off, and what is not listed has no default."""
    assert commands(main).keys() == OF_COMMANDS.keys()
    for name, command in commands(main).items():
        told = {option.name: option.get_default(click.Context(command)) for option in command.params}
        found = {key: value for key, value in told.items() if isinstance(value, str | int) and value is not False}
        assert found == OF_COMMANDS[name], name


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (pipeline.extract, {"reporter": None, "cluster": None}),
        (pipeline.train, {"tables": None, "device": "auto", "reporter": None, "on_result": None}),
        (
            pipeline.train_seeds,
            {"name": None, "stem": "", "device": "auto", "reporter": None, "resume": False, "on_result": None}
            | {"init": None},
        ),
        (pipeline.tune, {"device": "auto", "reporter": None, "method": None}),
        (pipeline.evaluate, {"split": "val", "data": None, "smoothing": None, "reporter": None}),
        (pipeline.submit, {"out": None, "data": None, "allow_missing": False, "reporter": None}),
        (TrainedRun.open, {"device": "auto", "raw": False}),
        (OpenEnsemble.open, {"device": "auto", "raw": False}),
        (open_predictor, {"device": "auto", "raw": False}),
        (find_predictor, {"device": "auto", "raw": False, "task": None}),
        (
            pipeline.demo,
            {"size": "small", "seed": 0, "device": "auto", "reporter": None, "kind": "aff-wild2", "on_result": None},
        ),
        (
            predict_video,
            {"backbones": (), "faces": 0, "raw": False, "device": "auto", "reporter": None},
        ),
        (write_clips, {"kind": "mp4", "options": None, "workers": None, "reporter": None, "only": ""}),
        (combine, {"weights": None, "by_output": None}),
        (create_ensemble, {"weights": None, "split": "val", "name": None, "raw": False, "by_output": None}),
        (find_results, {"raw": False}),
        (run_results, {"raw": False}),
        (
            WindowSampler.epoch,
            {
                "balance": "none",
                "synthetic": 0.0,
                "speed": (1.0, 1.0),
                "draw": "epoch",
                "phase": "random",
                "clips_per_video": 0,
            },
        ),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_defaults_of_functions(function, wanted):
    parameters = inspect.signature(function).parameters.values()
    assert {one.name: one.default for one in parameters if one.default is not one.empty} == wanted
