"""Predictions as rows: values, probabilities and labels against numpy, in frames' order, in pandas and as CSV."""

import builtins
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from abaw.core.doubles import Doubles
from abaw.core.errors import UsageError
from abaw.core.tasks import TASKS
from abaw.evaluate import prediction_table as module
from abaw.evaluate.prediction_table import prediction_table
from abaw.evaluate.predictions import VideoPrediction, load_predictions, save_predictions

VA, MTL, VGAF = TASKS["va"], TASKS["mtl"], TASKS["vgaf"]


def test_valence_and_arousal_by_hand(tmp_path: Path) -> None:
    """Outputs are clipped as for the scores; -5 is no label; a video without a frame rate has no times."""
    outputs = np.array([[0.5, -0.25], [1.5, 0.125], [-3, 0]], dtype=np.float32)
    labels = np.array([[0.1, -5], [-5, -5], [0.25, -1]], dtype=np.float32)
    present = np.array([True, False, True])
    videos = {"a": VideoPrediction(outputs, labels, present, 25.0), "=b": VideoPrediction(*(x[:1] for x in (outputs, labels, present)), 0.0)}  # fmt: skip
    prediction_table(VA, videos).write_csv(tmp_path / "p.csv")
    assert (tmp_path / "p.csv").read_text().splitlines() == [
        "video,frame,time_s,has_crop,valence,arousal,label_valence,label_arousal",
        "a,1,0.000000,true,0.500000,-0.250000,0.1,",
        "a,2,0.040000,false,1.000000,0.125000,,",
        "a,3,0.080000,true,-1.000000,0.000000,0.25,-1",
        "'=b,1,,true,0.500000,-0.250000,0.1,",
    ]


@pytest.mark.parametrize("rows_at_once", [2, 8192])
def test_all_tasks_at_once_in_pandas(rows_at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second labels of frames 2 and 5 follow their first ones."""
    pytest.importorskip("pandas")
    monkeypatch.setattr(module, "ROWS_AT_ONCE", rows_at_once)
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(5, 22)).astype(np.float32)
    labels = np.concatenate(
        [rng.uniform(-1, 1, (5, 2)), rng.integers(0, 8, (5, 1)), rng.integers(0, 2, (5, 12))], axis=1
    )
    labels[3] = [-5, -5, -1, *[-1] * 12]
    second = labels[:2] * np.array([1, 1, *[0] * 13])
    doubles = Doubles(np.array([1, 4]), second.astype(np.float32))
    video = VideoPrediction(outputs, labels.astype(np.float32), np.array([True] * 4 + [False]), 30.0, doubles)
    table = prediction_table(MTL, {"a": video, "b": video})
    frame = table.to_pandas()
    assert len(table) == len(frame) == 14 and tuple(frame.columns) == table.columns
    assert frame.video.tolist() == ["a"] * 7 + ["b"] * 7
    assert frame.frame.tolist() == [1, 2, 2, 3, 4, 5, 5] * 2
    order = [0, 1, 1, 2, 3, 4, 4]
    np.testing.assert_allclose(frame.time_s[:7], np.array(order) / 30)
    assert frame.has_crop[:7].tolist() == [True] * 5 + [False] * 2
    exp = np.exp(outputs[:, 2:10].astype(float))
    np.testing.assert_allclose(frame.Fear_probability[:7], (exp[:, 3] / exp.sum(axis=1))[order], rtol=1e-9)
    np.testing.assert_allclose(
        frame.AU26_probability[7:], 1 / (1 + np.exp(-outputs[order, 21].astype(float))), rtol=1e-9
    )
    assert frame.AU1[:7].tolist() == (outputs[order, 10] > 0).astype(int).tolist()
    names = np.array(MTL.outputs[2:10])
    assert frame.expression[:7].astype(str).tolist() == names[exp.argmax(axis=1)][order].tolist()
    actual = [names[int(labels[row, 2])] for row in order]
    actual[2], actual[6], actual[4] = "Neutral", "Neutral", ""  # by `second`, and not annotated
    assert ["" if name != name else name for name in frame.label_expression[:7]] == actual
    np.testing.assert_array_equal(frame.label_AU2.isna()[:7], [row == 3 for row in order])
    np.testing.assert_allclose(frame.label_arousal[[0, 1, 2, 3, 5, 6]], labels[[0, 1, 0, 2, 4, 1], 1], rtol=1e-6)


def test_whole_videos_have_a_row_each(tmp_path: Path) -> None:
    outputs, label = np.array([[0, 2, 1]], dtype=np.float32), np.array([[2]], dtype=np.float32)
    prediction_table(VGAF, {"1_1": VideoPrediction(outputs, label, np.ones(1, bool), 25.0)}).write_csv(
        tmp_path / "p.csv"
    )
    head, row = (tmp_path / "p.csv").read_text().splitlines()
    assert head.startswith("video,frame,time_s,has_crop,emotion,") and head.endswith(",label_emotion")
    assert row.startswith(f"1_1,1,,true,{VGAF.outputs[1]},0.090031,0.665241,0.244728,{VGAF.outputs[2]}")


def test_without_pandas_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = __import__

    def without_pandas(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "pandas":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(UsageError, match=r"pandas is not installed\. Install it with `pip install pandas`\."):
        prediction_table(VA, {}).to_pandas()


# the HDF5 file


def test_predictions_file_says_what_it_holds(tmp_path: Path) -> None:
    one = VideoPrediction(np.zeros((2, 22), np.float32), np.zeros((2, 15), np.float32), np.ones(2, bool), 25.0)
    save_predictions(tmp_path / "p.h5", {"a": one}, MTL, "abc", store="s.zarr")
    with h5py.File(tmp_path / "p.h5") as file:
        attributes = {name: value.tolist() if hasattr(value, "tolist") else value for name, value in file.attrs.items()}
    assert attributes.pop("abaw") and "the frame has a crop" in attributes.pop("about_present")
    assert attributes == {
        "task": "mtl",
        "level": "frame",
        "outputs": list(MTL.outputs),
        "output_kinds": ["value"] * 2 + ["class logit"] * 8 + ["logit"] * 12,
        "output_tasks": ["va"] * 2 + ["expr"] * 8 + ["au"] * 12,
        "columns": ["valence", "arousal", "expression", *MTL.outputs[10:]],
        "invalid": [-5, -5, -1, *[-1] * 12],
        "postprocessed": False,
        "store": "s.zarr",
        "made_from": "abc",
    }


def test_files_of_older_versions_are_read(tmp_path: Path) -> None:
    """As version 0.1.0 wrote them."""
    with h5py.File(tmp_path / "p.h5", "w") as file:
        file.attrs["outputs"] = ["valence", "arousal"]
        group = file.create_group("a")
        group.attrs["fps"] = 30.0
        for name, values in {"outputs": np.ones((3, 2), "f4"), "labels": np.zeros((3, 2), "f4"), "present": np.ones(3, bool)}.items():  # fmt: skip
            group.create_dataset(name, data=values)
    found = load_predictions(tmp_path / "p.h5")["a"]
    assert (found.outputs.sum(), found.labels.sum(), found.present.tolist(), found.fps) == (6, 0, [True] * 3, 30)
