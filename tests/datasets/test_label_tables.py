"""Tables with valence and arousal of all videos: found, read by frame number, checked, and trained on."""

import json
from pathlib import Path

import numpy as np
import pytest

from abaw.datasets.dataset import Labels
from abaw.datasets.layouts import look_through
from abaw.store import FeatureStore

HEADER = ",main_idx,vn,frame_idx,img_path,valence,arousal"
ROWS = ("a,1,0.0,0.038", "b_left,3,-1,1", "a,4,0.5,-0.25", "b_left,2,-5,0.75")  # the third frame of a is not listed
A = [[0, 0.038], [-5, -5], [-5, -5], [0.5, -0.25]]


def line(number: int, row: str) -> str:
    video, frame, *values = row.split(",")
    return f"{number},{video}/{int(frame):05},{video},{frame},{video}/{int(frame) + 1:05},{','.join(values)}"


def write(root: Path, name: str = "annotations/train.csv", rows: tuple[str, ...] = ROWS) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([HEADER, *(line(number, row) for number, row in enumerate(rows))]) + "\n")
    return path


def labels_of(root: Path) -> dict[str, Labels]:
    return {label.video: label for label in look_through(root).labels}


def errors_of(root: Path) -> list[str]:
    return [remark.sentence for remark in look_through(root).remarks if remark.is_error]


@pytest.mark.parametrize(
    "names", [("train.csv", "val.csv"), ("annotations/Train_Set.csv", "annotations/validation.csv")]
)
def test_rows_belong_to_the_frames_of_their_numbers(tmp_path, names):
    write(tmp_path, names[0])
    write(tmp_path, names[1], ("c d,2,0.1,0.2",))
    found = labels_of(tmp_path)
    assert {name: (label.task, label.split) for name, label in found.items()} == {
        "a": ("va", "train"),
        "b_left": ("va", "train"),
        "c d": ("va", "val"),
    }
    assert found["a"].read().dtype == np.float32
    np.testing.assert_array_equal(found["a"].read(), np.array(A, np.float32))
    np.testing.assert_array_equal(found["b_left"].read(), [[-5, -5], [-5, 0.75], [-1, 1]])
    np.testing.assert_array_equal(found["c d"].read(), np.array([[-5, -5], [0.1, 0.2]], np.float32))


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ("a,0,0,0", "line 6: `frame_idx` should be a frame number from 1 to 10,000,000, found '0'. Correct the line."),
        ("a,99999999,0,0", "line 6: `frame_idx` should be a frame number from 1 to 10,000,000, found '99999999'"),
        ("a,500001,0,0", "line 6: a has frame 500,001, and 3 rows in all; with so few, the last frame can be 500,000."),
        ("a,2,0,1.5", "line 6: arousal should be -1 to 1, or -5 if not annotated, found '1.5'. Correct the line."),
        ("a,2,x,0", "line 6: valence should be -1 to 1, or -5 if not annotated, found 'x'"),
        ("a,2,0,0,0", "line 6: 7 cells expected, found 8: '4,a/00002,a,2,a/00003,0,0,0'. Correct the line."),
        ("a,4,0,0", "line 6: frame 4 of video a is listed twice. Delete one of the lines."),
        (".a,4,0,0", "'.a' cannot be the name of a video"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_with_its_line(tmp_path, row, sentence):
    write(tmp_path, rows=(*ROWS, row))
    (said,) = errors_of(tmp_path)
    assert sentence in said and not look_through(tmp_path).labels


def test_other_tables_and_those_next_to_label_files_do_not_count(make_data, run_cli):
    root = make_data({"a": 2})
    write(root, "train.csv")
    (root / "val_seq.csv").write_text(",main_idx\n0,a/00001\n")
    (root / "val.csv").write_text("video,frame\na,1\n")
    done = run_cli("doctor", "--data", root)
    assert "val_seq.csv: a table of windows, which training draws by itself" in " ".join(done.output.split())
    assert set(labels_of(root)) == {"a", "b_left"}
    official = root / "VA_Estimation_Challenge/Train_Set/a.txt"
    official.parent.mkdir(parents=True)
    official.write_text("valence,arousal\n0,0\n0,0\n")
    assert set(labels_of(root)) == {"a"} and labels_of(root)["a"].path == official
    said = " ".join(run_cli("doctor", "--data", root).output.split())
    assert "train.csv: a table of labels, which is read if it is train.csv or val.csv and there is no VA_" in said


def test_features_and_labels_of_their_tree_train_their_recipe(tmp_path, run_cli, monkeypatch):
    """As in their repository: ABAW/annotations and ABAW/feat/<feature>, with windows of 250 frames every 100."""
    monkeypatch.chdir(tmp_path)
    rng, n_frames = np.random.default_rng(0), 260
    names = {"train": [f"{video}/{frame:05}" for video in "ab" for frame in range(1, n_frames + 1)]}
    names["val"] = [f"c/{frame:05}" for frame in range(1, n_frames + 1)]
    for split, of_split in names.items():
        rows = tuple(f"{name[0]},{int(name[2:])},{np.sin(int(name[2:]) / 9):.3f},0.25" for name in of_split)
        write(Path("ABAW"), f"annotations/{split}.csv", rows)
        for feature in ("fau", "wav2vec"):
            folder = Path("ABAW/feat") / feature
            folder.mkdir(parents=True, exist_ok=True)
            np.save(folder / f"{split}_0.npy", rng.normal(size=(len(of_split), 4)).astype(np.float32))
            (folder / f"{split}.csv").write_text("\n".join([",embedd_idx", *map("0,{}".format, of_split)]) + "\n")
    monkeypatch.setenv("ABAW_DATA", "ABAW")
    for feature in ("fau", "wav2vec"):
        done = run_cli("store", "import", f"ABAW/feat/{feature}", "--feature", feature, "--fps", 30)
        assert done.exit_code == 0, done.output
    store = FeatureStore.open("store.zarr")
    np.testing.assert_array_equal(store.read_labels("va", "c").rows[:, 1], np.full(n_frames, 0.25, np.float32))
    small = ("head.convs=8", "head.layers=1", "head.feedforward=8", "head.output_hidden=4", "epochs=1", "eval_every=1")
    words = [word for setting in small for word in ("--set", setting)]
    done = run_cli("train", "--recipe", "situ-va", "--feature", "fau", "--feature", "wav2vec", "--run", "r", *words)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "runs/r/metrics.jsonl").read_text())["score"] >= -1
