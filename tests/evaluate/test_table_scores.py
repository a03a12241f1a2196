"""Tables of OpenFace, py-feat and LibreFace, scored on official frames; expected values from scikit-learn and NumPy."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from sklearn.metrics import f1_score

from abaw import pipeline
from abaw.core.tasks import ACTION_UNITS, EXPRESSIONS, TASKS
from abaw.evaluate.evaluation import evaluate_predictions
from abaw.evaluate.predictions import VideoPrediction
from abaw.store import FeatureStore
from abaw.tests.support.command_line import assert_refused

Eval = Callable[..., Result]
N_ROWS = {"first": 6, "second": 5}
RNG = np.random.default_rng(3)
LABELS = {
    "au": {video: RNG.integers(0, 2, (n, 12)).astype(np.int8) for video, n in N_ROWS.items()},
    "expr": {video: RNG.integers(0, 8, (n, 1)).astype(np.int8) for video, n in N_ROWS.items()},
    "va": {video: RNG.uniform(-1, 1, (n, 2)).astype(np.float32) for video, n in N_ROWS.items()},
}
LABELS["au"]["first"][1, 3] = LABELS["expr"]["first"][4] = -1
LABELS["va"]["second"][2] = -5
UNITS = ("AU1", "AU2", "AU25")


@pytest.fixture
def scored(run_cli: Eval, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Eval:
    """`abaw eval --predictions` in a folder with a store of labels alone."""
    monkeypatch.chdir(tmp_path)
    store = FeatureStore.create(tmp_path / "store.zarr")
    for task, labels in LABELS.items():
        for video, rows in labels.items():
            store.write_labels(task, video, "val", rows)
    return lambda *arguments: run_cli("eval", "--predictions", *arguments)


def as_json(result: Result) -> dict:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def write_openface(rows: dict[str, dict[int, list[int]]], as_presence: bool = True) -> None:
    """A table for each video with units that are on or off in the frames that have a face."""
    Path("of").mkdir(exist_ok=True)
    names = [f"AU{int(unit[2:]):02}" for unit in UNITS]
    columns = [f"{name}_r" for name in names] + [f"{name}_c" for name in names] * as_presence
    for video, frames in rows.items():
        lines = [
            "frame, face_id, timestamp, confidence, success, " + ", ".join(columns),
            f"9, 0, 0, 0, 0{', 1' * len(columns)}",
        ]
        for number, on in frames.items():
            cells = [f"{2.5 * value:.2f}" for value in on] + [f"{value:.2f}" for value in on] * as_presence
            lines.append(f"{number}, 0, 0.1, 0.9, 1, {', '.join(cells)}")
        Path("of", f"{video}.csv").write_text("\n".join(lines) + "\n")


FACES = {"first": {1: [1, 0, 1], 2: [0, 0, 1], 5: [1, 1, 0]}, "second": {2: [0, 1, 1], 4: [1, 0, 0]}}
# frame 3 and 4 of `first` take 2 and 5, 6 takes 5; frame 3 of `second` is as near to 2 as to 4
FILLED = {"first": [1, 2, 2, 5, 5, 5], "second": [2, 2, 2, 4, 4]}


def mean_f1(frames: dict[str, list[int]], answers: dict[str, list[int]]) -> float:
    """Mean F1 of the three units over frames, numbered from 1, each with the answer of a frame."""
    scores = []
    for i, unit in enumerate(UNITS):
        labels = [LABELS["au"][v][n - 1, ACTION_UNITS.index(unit)] for v, numbers in frames.items() for n in numbers]
        on = [FACES[v][n][i] for v, numbers in answers.items() for n in numbers]
        scores.append(f1_score([label == 1 for label in labels], on))
    return float(np.mean(scores))


@pytest.mark.parametrize("as_presence", [True, False])
def test_units_over_all_frames_and_over_those_with_a_face(scored: Eval, as_presence: bool) -> None:
    write_openface(FACES, as_presence)
    found = as_json(scored("of", "--task", "au", "--json"))
    seen = {video: list(frames) for video, frames in FACES.items()}
    assert found["crop_only"]["score"] == pytest.approx(mean_f1(seen, seen))
    assert found["official"]["score"] == pytest.approx(
        mean_f1({v: list(range(1, n + 1)) for v, n in N_ROWS.items()}, FILLED)
    )
    assert found["official"]["n_frames"] == 11
    coverage = found["coverage"]
    assert (coverage["program"], coverage["labelled_frames"], coverage["with_prediction"]) == ("OpenFace 2", 11, 5)
    notes = " ".join(coverage["notes"])
    assert "3 of 12 outputs, without AU4, AU6, AU7, AU10" in notes
    assert f"with 0 for the others it is {found['official']['score'] / 4:.3f}" in notes
    assert ("Action units: on by presence." in notes) is as_presence
    assert ("Action units: on where the intensity is at least 1." in notes) is not as_presence


def test_threshold_decides_by_intensity(scored: Eval) -> None:
    write_openface(FACES)
    at = {value: as_json(scored("of", "--task", "au", "--threshold", value, "--json")) for value in ("2.5", "2.6")}
    assert at["2.5"]["crop_only"]["score"] > 0
    assert at["2.6"]["crop_only"]["score"] == 0
    assert "Never on, for no intensity reaches 2.6: AU1 (largest 2.5)" in " ".join(at["2.6"]["coverage"]["notes"])


def ccc(x: np.ndarray, y: np.ndarray) -> float:
    return 2 * np.cov(x, y, bias=True)[0, 1] / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_values_of_a_table_with_many_videos(scored: Eval) -> None:
    """Frames from 0, the surest face; a video that is not labelled, and one that is not predicted."""
    values = LABELS["va"]["first"] * np.float32(0.5) + np.float32(0.1)
    lines = [f"in/first.mp4,{i},.9,{v},{a}" for i, (v, a) in enumerate(values.tolist())]
    lines += ["in/first.mp4,0,.5,-1,-1", "in/other.mp4,0,.9,0,0", "in/first.mp4,7,0,,"]
    Path("fex.csv").write_text("\n".join(["input,frame,FaceScore,valence,arousal", *lines]) + "\n")
    found = as_json(scored("fex.csv", "--task", "va", "--json"))
    expected = [ccc(values[:, i], LABELS["va"]["first"][:, i]) for i in (0, 1)]
    assert list(found["crop_only"]["parts"].values()) == pytest.approx(expected, abs=1e-5)
    assert found["coverage"]["videos_without_predictions"] == ["second"]
    assert found["coverage"]["notes"] == [
        "1 frames have several faces: the surest one is scored.",
        "1 videos of the tables have no va labels in val: other.",
    ]


def test_expressions_by_probability_name_and_number(scored: Eval) -> None:
    """Contempt is Other; a class that a program lacks has F1 0."""
    labels = {video: rows[:, 0] for video, rows in LABELS["expr"].items()}
    names = ("Neutral", "Happiness", "Sadness", "Surprise", "Fear", "Disgust", "Anger", "Contempt")  # AffectNet
    answers = {video: [int(i) for i in RNG.integers(0, 8, n)] for video, n in N_ROWS.items()}
    as_ours = {
        v: [EXPRESSIONS.index("Other" if names[i] == "Contempt" else names[i]) for i in own]
        for v, own in answers.items()
    }
    valid = {video: own >= 0 for video, own in labels.items()}
    actual, ours = (np.concatenate([np.array(of[v])[valid[v]] for v in N_ROWS]) for of in (labels, as_ours))
    expected = f1_score(actual, ours, labels=range(8), average="macro", zero_division=0)
    rows = [(video, i, answer) for video, own in answers.items() for i, answer in enumerate(own)]
    tables = {
        "py-feat": "input,frame,FaceScore,Neutral,Happy,Sad,Surprise,Fear,Disgust,Anger,Contempt\n"
        + "".join(f"{v}.mp4,{i},1,{','.join('.6' if k == a else '.05' for k in range(8))}\n" for v, i, a in rows),
        "LibreFace": "video,frame_idx,facial_expression\n" + "".join(f"{v},{i},{names[a]}\n" for v, i, a in rows),
        "OpenFace 3": "video,frame_index,emotion\n" + "".join(f"{v},{i},{a}.0\n" for v, i, a in rows),
    }
    for program, text in tables.items():
        Path("t.csv").write_text(text)
        found = as_json(scored("t.csv", "--task", "expr", "--json"))
        assert found["official"]["score"] == pytest.approx(expected), program
        assert (found["coverage"]["program"], found["coverage"]["notes"]) == (program, ["Contempt counts as Other."])
    seven = tables["py-feat"].replace(",Contempt", ",contmept")
    Path("t.csv").write_text(seven)
    note = as_json(scored("t.csv", "--task", "expr", "--json"))["coverage"]["notes"][0]
    assert note.startswith("The tables have no Other, whose F1 is 0; the mean over the 7 others is ")


@pytest.mark.parametrize("task", ["va", "expr", "au"])
def test_own_table_scores_as_its_run(scored: Eval, task: str) -> None:
    """What `abaw eval --csv` writes of a run is a plain table."""
    predictions = {}
    for video, labels in LABELS[task].items():
        outputs = RNG.normal(size=(len(labels), len(TASKS[task].outputs))).astype(np.float32)
        predictions[video] = VideoPrediction(outputs, labels.astype(np.float32), np.ones(len(labels), bool), 30.0)
    evaluation = evaluate_predictions(TASKS[task], predictions)
    evaluation.table().write_csv(Path("mine.csv"))
    found = as_json(scored("mine.csv", "--task", task, "--json"))
    assert found["official"]["score"] == pytest.approx(evaluation.official.score, abs=1e-6)
    assert found["coverage"]["program"] == "plain table"


def test_what_cannot_be_scored_is_said(scored: Eval) -> None:
    write_openface(FACES)
    Path("bad.csv").write_text("frame,FaceScore,AU01\n0,.9,3.5\n")
    Path("numbered.csv").write_text("frame,success,AU01_r,AU02_r,AU03_r\n1,1,0,0,0\n")
    Path("frist.csv").write_text("frame,FaceScore,valence,arousal\n0,.9,0,0\n")
    for arguments, words in (
        (("of",), "(OpenFace 2) has columns of au. Choose with --task."),
        (("of", "--task", "va"), "(OpenFace 2) has no column of task va: valence, arousal"),
        (("of", "--task", "mtl"), "scored on tasks of single frames, such as va, expr and au; not mtl"),
        (("of", "--task", "au", "--feature", "hog"), "--feature is about submission files"),
        (("frist.csv", "--task", "va", "--threshold", "1"), "--threshold is for action units"),
        (("numbered.csv", "--task", "au"), "has an AU3, so that its action units are numbered"),
    ):
        assert_refused(scored(*arguments), 2, words)
    assert_refused(scored("frist.csv", "--task", "va"), 1, "the first is 'frist'. Did you mean first?")
    assert_refused(
        scored("bad.csv", "--task", "au"), 1, "`AU01` has 3.5, which is no probability. Call the column AU01_r"
    )


def test_tables_without_an_answer_say_what_they_lack(scored: Eval) -> None:
    Path("nothing").mkdir()
    header = "video,frame,valence,arousal\n"
    for rows, words in (
        ("", "t.csv has no row with a face and finite numbers. Write the tables again."),
        ("first,1,nan,0\n", "t.csv has no row with a face and finite numbers."),
        (
            "first,5000,0,0\n",
            f"those of first begin with 5000, and its labels end with {N_ROWS['first']}. Number frames",
        ),
    ):
        Path("t.csv").write_text(header + rows)
        assert_refused(scored("t.csv", "--task", "va"), 1, words)
    assert_refused(scored("gone", "--task", "va"), 1, "There is no file or folder gone. Correct --predictions.")
    assert_refused(scored("nothing"), 1, "The folder nothing is empty. Put the files of predictions in it")
    Path("t.csv").write_text(header + "first,1,5,0\nfirst,2,0,0\nfirst,5000,0,-.5\nfirst,5001,0,0\n")
    assert as_json(scored("t.csv", "--task", "va", "--json"))["coverage"]["notes"] == [
        f"2 frames come after the last label of their video and are not scored, the first in first, which has {N_ROWS['first']}.",
        "valence goes from 0 to 5, and its labels from -1 to 1: numbers beyond are clipped.",
    ]


def test_kept_scores_are_compared_with_those_of_a_run(scored: Eval, run_cli: Eval, tmp_path: Path) -> None:
    """On the units that both have, as if both were tables of these alone."""
    write_openface(FACES)
    twelve = "video,frame," + ",".join(ACTION_UNITS) + "\n"
    rows = {video: RNG.uniform(size=(n, 12)).round(3) for video, n in N_ROWS.items()}
    Path("other.csv").write_text(
        twelve
        + "".join(f"{v},{i + 1},{','.join(map(str, row))}\n" for v, own in rows.items() for i, row in enumerate(own))
    )
    kept = scored("of", "--task", "au", "--keep", "of")
    assert kept.exit_code == 0 and "Kept in runs/of. Next: abaw compare of RUN" in kept.stdout
    assert scored("other.csv", "--task", "au", "--keep", "other", "--json").exit_code == 0
    result = run_cli("compare", "other", "of", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    frames = {video: list(range(1, n + 1)) for video, n in N_ROWS.items()}
    labels = np.concatenate([LABELS["au"][video] for video in N_ROWS])
    on = np.concatenate([rows[video] >= 0.5 for video in N_ROWS])
    columns = [ACTION_UNITS.index(unit) for unit in UNITS]
    first = np.mean([f1_score(labels[:, i] == 1, on[:, i]) for i in columns])
    assert found["task"] == "au:AU1+AU2+AU25"
    assert found["scores"]["score"]["values"] == pytest.approx([first, mean_f1(frames, FILLED)])
    comparison = pipeline.compare(tmp_path / "runs", ("other", "of"))
    assert comparison.warnings()[0] == "Compared on the outputs that both have: AU1, AU2, AU25."
    assert not comparison.can_average
    (tmp_path / "runs" / "taken").mkdir()
    (tmp_path / "runs" / "taken" / "config.json").write_text("{}")
    assert_refused(scored("of", "--task", "au", "--keep", "taken"), 2, "has no predictions of --keep")
    Path("v.csv").write_text("video,frame,valence\nfirst,1,0\nfirst,2,1\n")
    assert_refused(
        scored("v.csv", "--task", "va", "--keep", "of"), 2, "of task au:AU1+AU2+AU25, these are of va:valence."
    )
