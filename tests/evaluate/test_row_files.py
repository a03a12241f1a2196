"""Submissions of ah, vd, emi, ce, mer and engagement: the golden files are written by hand, and each mistake is named."""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from sklearn.metrics import accuracy_score, f1_score

from abaw.core.errors import DataError, UsageError
from abaw.core.task_types import FRAME, LABEL, PROBABILITIES, LabelTable, RowFiles, SubmissionFiles
from abaw.core.tasks import EXPR, TASKS
from abaw.evaluate.compound import compound_outputs
from abaw.evaluate.predictions import VideoPrediction
from abaw.evaluate.scores.bootstrap import measures, n_units
from abaw.evaluate.scores.metrics import score
from abaw.evaluate.submission.check import check_submission, identify
from abaw.evaluate.submission.formats import Sample, format_values
from abaw.evaluate.submission.parsing import read_rows, wrong_with
from abaw.evaluate.submission.row_cells import format_probabilities, parse_row, wrong_probabilities
from abaw.evaluate.submission.row_files import NameSample
from abaw.evaluate.submission.sample_files import read_sample
from abaw.evaluate.submission.score import score_predictions
from abaw.evaluate.submission.write import write_submission
from abaw.evaluate.trained import TrainedRun, shared_people
from abaw.store import FeatureStore
from abaw.tests.support.paths import DATA
from abaw.tests.support.stores import new_store, put_feature
from abaw.train.checkpoint import save_tensors
from abaw.train.config import make_config
from abaw.train.data.folds import assign_folds, group_videos
from abaw.train.model import build_model
from abaw.train.new_run import start_run
from abaw.train.run_files import BEST

GOLDEN = DATA / "golden"
SAMPLES = {
    "ah": "sample_ah.txt",
    "vd": "sample_vd.txt",
    "emi": "sample_emi.csv",
    "mer": "sample_mer.csv",
    "engagement": "sample_engagement.txt",
    "ce": "sample_ce.txt",
}
FILES = {
    "ah": "predictions_ah.txt",
    "emi": "predictions_emi.csv",
    "mer": "predictions_mer.csv",
    "engagement": "predictions_engagement",
    "ce": "predictions_ce.txt",
}
AH = ("7_Question_1_2024_Video", "3_Question_2_2024_Video", "3_Question_4_2024_Video")
# by video, rows of outputs from which the golden files follow
OUTPUTS: dict[str, dict[str, list[list[float]]]] = {
    "ah": {AH[0]: [[0, 1]], AH[1]: [[1, -1]], AH[2]: [[3, 3]]},
    "vd": {"0001": [[1, 0], [0, 1], [-1, 0]], "0002": [[0, 0.5]]},
    "emi": {"00014": [[0.125, -0.2, 0.25, 1.5, 0.375, 0.5]], "00002": [[0, 0, 0, 0.75, 0, 0.125]]},
    "mer": {"sample_2": [[0, 0, 0, 0, 1, 0]], "sample_1": [[0.5, 0, 0, 0.4, 0, 0]]},
    "engagement": {"clip_7": [[0.625]], "clip_1": [[-0.1]]},
}


def store_of(path: Path, outputs: Mapping[str, list[list[float]]]) -> FeatureStore:
    width = len(next(iter(outputs.values()))[0])
    store = new_store(path, {"f": (width,)})
    for video, rows in outputs.items():
        put_feature(store, "f", video, np.array(rows, dtype=np.float32))
    return store


def copying_run(store: FeatureStore, task: str) -> TrainedRun:
    """A run whose outputs are its feature."""
    config = make_config({"task": task, "features": ("f",), "head": {"name": "linear"}, "window": 2})
    run = start_run(config, store, Path(store.path).parent / "runs")
    state = {key: value * 0 if "output" in key else value for key, value in build_model(run).state_dict().items()}
    state["heads.0.output.weight"][:] = torch.eye(len(TASKS[task].outputs))
    save_tensors(run.folder / BEST, state, {"epoch": "1", "score": "0"})
    return TrainedRun.open(run, "cpu")


def names_of(task: str) -> NameSample:
    sample = read_sample(GOLDEN / SAMPLES[task], TASKS[task])
    assert isinstance(sample, NameSample)
    return sample


def zipped(folder: Path, out: Path) -> Path:
    with zipfile.ZipFile(out, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
    return out


@pytest.mark.parametrize("task", OUTPUTS)
def test_submissions_are_the_golden_files(task: str, tmp_path: Path) -> None:
    store, out = store_of(tmp_path / "store.zarr", OUTPUTS[task]), tmp_path / "out"
    written = write_submission(copying_run(store, task), store, names_of(task), out)
    assert written.n_videos == len(OUTPUTS[task])
    if task == "vd":
        with zipfile.ZipFile(out) as archive:
            found = {name: archive.read(name).decode() for name in archive.namelist()}
        assert found == {path.name: path.read_text() for path in (GOLDEN / "predictions_vd").iterdir()}
    elif task == "engagement":
        wanted = {path.name: path.read_text() for path in (GOLDEN / FILES[task]).iterdir()}
        assert {path.name: path.read_text() for path in out.iterdir()} == wanted
    else:
        assert out.read_bytes() == (GOLDEN / FILES[task]).read_bytes()


@pytest.mark.parametrize("task", [*FILES, "vd"])
def test_golden_files_have_no_problems(task: str, tmp_path: Path) -> None:
    path = zipped(GOLDEN / "predictions_vd", tmp_path / "p.zip") if task == "vd" else GOLDEN / FILES[task]
    check = check_submission(path, read_sample(GOLDEN / SAMPLES[task], TASKS[task]))
    assert (check.first, check.counts) == ("", {})
    assert check.n_rows == {"ah": 3, "vd": 4, "emi": 2, "mer": 2, "engagement": 2, "ce": 3}[task]
    if task in ("emi", "mer", "ce"):  # known by their headers
        assert identify(path) == TASKS[task]
        assert check_submission(path, read_sample(path), TASKS[task]).first == ""


def test_both_forms_of_ah_are_accepted(tmp_path: Path) -> None:
    path = GOLDEN / "predictions_ah_answers.txt"
    assert check_submission(path, names_of("ah")).first == ""
    store = store_of(tmp_path / "store.zarr", OUTPUTS["ah"])
    for video, label in zip(AH, (1, 1, 0), strict=True):
        store.write_labels("ah", video, "val", np.array([[label]], dtype=np.int8))
    alone, both = (score_predictions(store, TASKS["ah"], "val", file) for file in (path, GOLDEN / FILES["ah"]))
    # class 0: 1 right, 2 predicted, 1 there: 2/3; class 1: 1 right, 1 predicted, 2 there: 2/3
    assert alone.official.score == both.official.score == pytest.approx(2 / 3)
    assert alone.official.also == {}
    # precision 2/3 and recall 1 up to .119, (1/2, 1/2) up to .5, (1, 1/2) up to .731, then (0, 0)
    wanted = (1 - 1 / 2) * (2 / 3 + 1 / 2) / 2 + (1 / 2 - 0) * (1 + 0) / 2
    assert both.official.also["ap"] == pytest.approx(wanted, abs=1e-6)


def test_files_of_clips_with_a_header_are_scored(tmp_path: Path) -> None:
    """One of the names in it has a space."""
    store = store_of(tmp_path / "store.zarr", OUTPUTS["emi"])
    lines = (GOLDEN / FILES["emi"]).read_text().splitlines()
    for line in lines[1:]:
        clip, *values = line.split(",")
        store.write_labels("emi", clip, "val", np.array([values], dtype=np.float32))
    found = score_predictions(store, TASKS["emi"], "val", GOLDEN / FILES["emi"]).official
    assert found.parts == pytest.approx(
        {name: float(name != "Amusement") for name in TASKS["emi"].outputs}
    )  # it is constant


def test_files_of_frames_are_scored(tmp_path: Path) -> None:
    store = store_of(tmp_path / "store.zarr", OUTPUTS["vd"])
    for video, labels in (("0001", [0, 1, -1]), ("0002", [0])):
        store.write_labels("vd", video, "val", np.array(labels, dtype=np.int8)[:, None])
    for path in (GOLDEN / "predictions_vd", zipped(GOLDEN / "predictions_vd", tmp_path / "p.zip")):
        # right: 0, 1; wrong: a 1 for 0. F1 2/3 of both
        assert score_predictions(store, TASKS["vd"], "val", path).official.score == pytest.approx(2 / 3)


def test_further_scores_of_files_are_those_of_all_frames(tmp_path: Path) -> None:
    """Two videos in the order of nobody, scored by scikit-learn, and the AP from probabilities as they are written."""
    task = replace(
        TASKS["vd"],
        name="scene",
        measure=replace(TASKS["vd"].measure, also=("accuracy", "ap")),
        submission=SubmissionFiles(rows=RowFiles("videos", columns=((FRAME, PROBABILITIES, LABEL),))),
    )
    answers = {"0001": [(3, 0.3, 1), (1, 0.9, 1), (2, 0.3, 0)], "0002": [(1, 0.3, 1), (2, 0.7, 0)]}
    labels = {"0001": [1, 0, 1], "0002": [-1, 1]}
    store, folder = store_of(tmp_path / "store.zarr", {"0001": [[0, 0]] * 3, "0002": [[0, 0]] * 2}), tmp_path / "p"
    folder.mkdir()
    for video, rows in answers.items():
        lines = [f"{frame},{1 - p:.1f},{p},{label}\n" for frame, p, label in rows]
        (folder / f"{video}.txt").write_text("".join(lines))
        store.write_labels("scene", video, "val", np.array(labels[video], dtype=np.int8)[:, None])
    found = score_predictions(store, task, "val", folder).official
    actual, predicted = [1, 0, 1, 1], [1, 0, 1, 0]
    assert found.score == pytest.approx(f1_score(actual, predicted, average="macro"))
    assert found.also["accuracy"] == pytest.approx(accuracy_score(actual, predicted))
    # of frames with .9, .3, .3 and .7 the second has label 0: (recall, precision) is (1, 3/4) to .3, (2/3, 1) to .7, (1/3, 1) to .9
    wanted = (1 - 2 / 3) * (3 / 4 + 1) / 2 + (2 / 3 - 1 / 3) + (1 / 3 - 0) * (1 + 0) / 2
    assert found.also["ap"] == pytest.approx(wanted, abs=1e-12)


def test_classes_that_count_from_1_do_so_in_files_of_images(tmp_path: Path) -> None:
    table = LabelTable((("", "t.csv"),), "clip", ("expression",), first=1)
    task = replace(TASKS["lsd"], name="own", table=table, submission=SubmissionFiles(TASKS["va"].submission.images))
    assert format_values(task, np.array([[0], [5]])) == ["1", "6"]
    (tmp_path / "p.txt").write_text(f"{task.submission.images}\na/1.jpg,1\na/2.jpg,6\n")
    rows = read_rows(tmp_path / "p.txt", "images")
    assert rows.values(task).tolist() == [[0], [5]]
    assert wrong_with("0", task) == "expression should be an integer from 1 to 6, found '0'"
    sample = read_sample(tmp_path / "p.txt", replace(task, level="frame"))
    assert isinstance(sample, Sample) and sample.task.name == "own", "va has the same header"


def test_probabilities_always_add_up_to_one() -> None:
    rng = np.random.default_rng(0)
    logits = np.concatenate([rng.normal(0, 4, 20_000), [0, 1e-9, -1e-9, 800, -800, 20, -20]])
    for logit in logits.tolist():
        label = int(logit > 0)
        texts = format_probabilities(np.array([0, logit]), label)
        assert float(texts[0]) + float(texts[1]) == 1.0 and wrong_probabilities(texts) == ""
        assert (float(texts[1]) >= 0.5) if label else (float(texts[1]) <= 0.5)
        assert float(texts[1]) == pytest.approx(1 / (1 + np.exp(-np.clip(logit, -700, 700))), abs=1e-6)
    assert format_probabilities(np.array([0.0, 2.0]), 0) == ("0.500000", "0.500000")  # a threshold decided so
    assert wrong_probabilities(("0.7", "0.30000000000000001")) == ""
    assert wrong_probabilities(("0.1", "0.8")) == "0.1 + 0.8 should be exactly 1.0, found 0.9"
    assert wrong_probabilities(("1.1", "-0.1")) == "a probability should be a number from 0 to 1, found '1.1'"
    assert wrong_probabilities(("nan", "1")) == "a probability should be a number from 0 to 1, found 'nan'"


def changed(tmp_path: Path, task: str, number: int, line: str | None) -> str:
    """The first problem once a line of the golden file is changed, or dropped."""
    path = GOLDEN / FILES[task]
    lines = path.read_text().splitlines()
    lines[number - 1 : number] = [] if line is None else line.split("\n")
    (tmp_path / path.name).write_text("\n".join(lines) + "\n")
    check = check_submission(tmp_path / path.name, names_of(task))
    return check.first.removeprefix(f"{tmp_path / path.name} ")


def test_mistakes_in_files_of_clips_are_named(tmp_path: Path) -> None:
    seven, three = (f"Videos/{video[0]}/Visite_1/{video}.mp4" for video in AH[:2])
    assert changed(tmp_path, "ah", 1, f"{seven},0.3,0.6,1").startswith(
        "line 1: 0.3 + 0.6 should be exactly 1.0, found 0.8999"
    )
    assert changed(tmp_path, "ah", 2, f"{three},2").startswith(
        "line 2: label should be an integer from 0 to 1, found '2'"
    )
    assert changed(tmp_path, "ah", 2, f"{three},0.5,0").startswith(
        "line 2: 2 (clip, label) or 4 (clip, probabilities, label) cells are expected, found 3"
    )
    assert changed(tmp_path, "ah", 1, None).startswith(f"line 1: {seven} should be here and is missing")
    assert changed(tmp_path, "ah", 2, f"{seven},1").startswith(f"line 2: {seven} is already on line 1")
    assert changed(tmp_path, "ah", 1, "path,label").startswith("line 1: 3 cells") is False
    assert changed(tmp_path, "ah", 1, f"\ufeff{seven},1").startswith("line 1: it begins with a byte order mark")
    assert changed(tmp_path, "mer", 2, "sample_2,afraid").startswith(
        "line 2: the class should be one of neutral, angry,"
    )
    assert changed(tmp_path, "mer", 1, "name,label").startswith(
        "line 1: the header should be 'name,discrete', found 'name,label'"
    )
    assert changed(tmp_path, "emi", 2, "00014,0,0,0,0,0,1.2").startswith(
        "line 2: Joy should be a number from 0 to 1, found '1.2'"
    )
    assert changed(tmp_path, "emi", 3, "00002,0,0,0,0,0,0\n00003,0,0,0,0,0,0").startswith(
        "line 4: '00003' is not in the sample"
    )


def test_mistakes_in_files_of_videos_are_named(tmp_path: Path) -> None:
    folder, sample = tmp_path / "p", names_of("vd")
    folder.mkdir()

    def problem(**texts: str) -> str:
        for path in folder.iterdir():
            path.unlink()
        for name in ("0001", "0002"):
            (folder / f"{name}.csv").write_text((GOLDEN / "predictions_vd" / f"{name}.csv").read_text())
        for name, text in texts.items():
            (folder / f"{name.removeprefix('_')}.csv").write_text(text)
        first = check_submission(zipped(folder, tmp_path / "p.zip"), sample).first
        return first.removeprefix(f"{tmp_path / 'p.zip'}/")

    header = "Frame_Number,Predicted_Label\n"
    assert problem() == ""
    assert problem(_0001=f"{header}1,0\n3,0\n") == "0001.csv line 3: frame 2 should be here, found 3."
    assert problem(_0001=f"{header}0,0\n").startswith("0001.csv line 2: the frame should be a number from 1, found '0'")
    assert problem(_0001="1,0\n").startswith("0001.csv line 1: the header should be 'Frame_Number,Predicted_Label'")
    assert problem(_0001=header) == "0001.csv line 1: there are no rows."
    assert problem(_0003=f"{header}1,0\n").endswith("0003.csv belongs to no video in " + f"{GOLDEN / 'sample_vd.txt'}.")
    (folder / "0001.csv").unlink()
    assert "0001.csv is missing" in check_submission(folder, sample).first
    (tmp_path / "no.zip").write_text("no archive")
    with pytest.raises(DataError, match="cannot be read as a zip archive of text files"):
        check_submission(tmp_path / "no.zip", sample)
    two = tmp_path / "e"
    two.mkdir()
    (two / "clip_1.txt").write_text("0.1\n0.2\n")
    (two / "clip_7.txt").write_text("1.5\n")
    check = check_submission(two, names_of("engagement"))
    assert check.counts == {"row with wrong cells": 1, "file with several rows": 1}
    (two / "clip_1.txt").write_text("\ufeff0.1\n")
    assert check_submission(two, names_of("engagement")).counts == {"byte order mark": 1, "row with wrong cells": 1}


def test_samples_with_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "s.txt"
    for text, wrong in (
        ("", "lists no clips"),
        ("a.mp4,1\nx/a.mp4,0\n", "line 2: a is already on line 1"),
        ("a\n,1\n", "line 2: ',1' does not begin with the name of a clip"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=wrong):
            read_sample(path, TASKS["ah"])
    path.write_text("image_location,valance,arousal\na/1.jpg,\n")
    with pytest.raises(DataError, match="It is most like that of va, 'image_location,valence,arousal'"):
        read_sample(path)
    path.write_text("a.mp4,1,x\nb.mp4,0,y\n")
    with pytest.raises(DataError, match=r"Known headers: va .* of your own, name the task with --task\.$"):
        read_sample(path)
    with pytest.raises(UsageError, match="is a sample of task ah, not vd"):
        check_submission(path, read_sample(path, TASKS["ah"]), TASKS["vd"])
    row = parse_row(TASKS["vd"], "3,1")
    assert not isinstance(row, str) and (row.frame, row.label.tolist(), row.name) == (3, [1], "")


def test_compound_expressions_are_sums_of_pairs(tmp_path: Path, run_cli: Callable[..., Result]) -> None:
    """From logarithms of probabilities in the order of `EXPRESSIONS`, by hand."""
    rows = {
        "10": [[0.1, 0.0, 0.0, 0.1, 0.4, 0.1, 0.2, 0.1], [0.3, 0.0, 0.0, 0.3, 0.1, 0.2, 0.1, 0.0]],
        "4": [[0.5, 0.2, 0.05, 0.0, 0.0, 0.25, 0.0, 0.0]],
    }
    logits = {video: [[float(np.log(max(p, 1e-30))) for p in row] for row in each] for video, each in rows.items()}
    sums = np.exp(compound_outputs(TASKS["ce"], np.array(logits["10"][:1])))
    # fear, happiness, sadness, disgust, anger with surprise; sadness with fear, with anger
    np.testing.assert_allclose(sums[0], [0.3, 0.6, 0.3, 0.2, 0.2, 0.2, 0.1], rtol=1e-6)
    store = store_of(tmp_path / "store.zarr", logits)
    run = copying_run(store, EXPR.name)
    found = run_cli(
        *("submit", run.name, "--sample", GOLDEN / "sample_ce.txt", "--store", store.path, "--runs", tmp_path / "runs"),
        *("--out", tmp_path / "ce.txt", "--device", "cpu"),
    )
    assert found.exit_code == 0, found.output
    assert (tmp_path / "ce.txt").read_bytes() == (GOLDEN / "predictions_ce.txt").read_bytes()
    with pytest.raises(UsageError, match="Task mer has no format for a submission file"):
        other = store_of(tmp_path / "b" / "store.zarr", OUTPUTS["mer"])
        write_submission(copying_run(other, "mer"), other, read_sample(GOLDEN / "sample_ce.txt"), tmp_path / "x")


def test_people_of_bah_are_drawn_and_dealt_whole(tmp_path: Path) -> None:
    """Six videos of three people are three units; a person in train and val is named."""
    videos = {f"{person}_Question_{n}_x_Video": (person, n) for person in (1, 2, 3) for n in (1, 2)}
    assert len(group_videos(videos.keys())) == 3
    folds = assign_folds(dict.fromkeys(videos, 1), 3)
    assert {folds[video] for video, (person, _) in videos.items() if person == 2} == {folds["2_Question_1_x_Video"]}
    rng, task = np.random.default_rng(0), TASKS["ah"]
    predictions = {
        video: VideoPrediction(
            rng.normal(size=(1, 2)).astype(np.float32), np.array([[n % 2]], np.float32), np.ones(1, dtype=bool), 25.0
        )
        for n, video in enumerate(videos)
    }
    assert n_units(task, predictions) == 3
    stacked = [np.concatenate([getattr(one, name) for one in predictions.values()]) for name in ("outputs", "labels")]
    assert measures(task, predictions)["score"] == pytest.approx(score(task, *stacked).score)
    store = store_of(tmp_path / "store.zarr", {video: [[0, 0]] for video in videos})
    for video, (person, n) in videos.items():
        split = "train" if person == 1 or (person == 2 and n == 1) else "val"
        store.write_labels("ah", video, split, np.array([[0]], dtype=np.int8))
    assert shared_people(store, task, "val").startswith("1 person is in both train and val (2): scores of people")
    assert shared_people(store, task, "train") == ""
