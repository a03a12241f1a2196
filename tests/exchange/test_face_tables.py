"""Tables of OpenFace, py-feat and LibreFace as features: files made by hand in their layouts, values read off them."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from abaw.core.errors import DataError, UsageError
from abaw.exchange.importer import ImportOptions, import_features, is_imported
from abaw.store import FeatureStore
from abaw.tests.support.command_line import assert_refused

GOLDEN = Path(__file__).resolve().parent.parent / "data" / "golden" / "face_tables"


def imported(source: Path, tmp_path: Path, *columns: str, face: str = "") -> tuple[FeatureStore, list[str]]:
    """A store with the feature `f` of a source, and what was said."""
    options = ImportOptions(source, tmp_path / "store.zarr", "f", fps=30, columns=columns, face=face)
    summary = import_features(options)
    assert summary.failed == {}
    return FeatureStore.open(tmp_path / "store.zarr"), summary.warnings


def rows(store: FeatureStore, video: str = "first") -> dict[int, list[float]]:
    """The values of each frame that is present, by its number from 1."""
    video_rows = store.read("f", video)
    return {i + 1: video_rows.values[i].tolist() for i in np.flatnonzero(video_rows.present).tolist()}


@pytest.mark.parametrize(
    ("folder", "columns", "expected"),
    [
        # frames from 1; frame 2 has a second face that is less sure, 3 has none, 4 is not there
        ("openface2", ("AU12_r", "AU28_c", "pose_Rx"), {1: [0.11, 1.5, 0], 2: [0.21, 1.75, 0], 5: [0.31, 0.75, 0]}),
        # frames from 0; in the last one the second face is surer
        ("openface3", ("gaze", "action_units_7"), {1: [-0.25, 0.5, 0.875], 3: [0.125, 0.25, 0]}),
        ("pyfeat1", ("Pitch", "AU04", "happiness"), {1: [1, 0.125, 0.75], 3: [1.5, 0.625, 0.125]}),
        ("pyfeat2", ("va", "Contempt"), {1: [0.25, 0.625, -0.25], 3: [0.5, -0.375, 0.5]}),
        ("libreface", ("au_12_intensity", "facial_expression=Contempt"), {1: [3.5, 0], 2: [0.5, 1]}),
    ],
)
def test_frames_are_aligned_by_number(tmp_path: Path, folder: str, columns: tuple[str, ...], expected: dict) -> None:
    store, _ = imported(GOLDEN / folder, tmp_path, *columns)
    found = rows(store)
    assert found.keys() == expected.keys()
    for number, values in expected.items():
        assert found[number] == pytest.approx(values, abs=2e-3)  # float16


def test_default_is_without_landmarks_boxes_and_identity(tmp_path: Path) -> None:
    store, notes = imported(GOLDEN / "pyfeat2", tmp_path)
    assert dict(store.feature_attrs("f")["spec"]["options"])["columns"] == (
        "Pitch,Roll,Yaw,X,Y,Z,AU01,AU12,AU25,Neutral,Happy,Sad,Surprise,Fear,Disgust,Anger,Contempt,valence,arousal,"
        "gaze_pitch,gaze_yaw,gaze_angle"
    )
    assert notes == ["tables of py-feat: 22 columns in this order: Pitch, Roll, Yaw, X ... gaze_angle"]
    attrs = store.feature_attrs("f")
    known = {"fingerprint": attrs["fingerprint"], "shape": [22], "record": store.feature_record("f")}
    assert is_imported("f", known)


def test_one_table_has_many_videos(tmp_path: Path) -> None:
    store, _ = imported(GOLDEN / "pyfeat1" / "fex.csv", tmp_path, "Yaw")
    assert set(store.videos("f")) == {"first", "second"}
    assert rows(store, "second") == {1: [6]}


@pytest.mark.parametrize("face", ["", "1"])
def test_face_is_chosen_and_said(tmp_path: Path, face: str) -> None:
    store, notes = imported(GOLDEN / "openface2", tmp_path, "AU01_r", face=face)
    assert rows(store) == ({2: [3]} if face else {1: [0.25], 2: [0.5], 5: [1.25]})
    assert ("face 1 is taken" if face else "the highest confidence is taken (--face ID for another)") in notes[1]
    assert "first 1 of them" in notes[1]


def test_other_frames_and_names(tmp_path: Path) -> None:
    """A plain table with videos, from 1; paths of crops; a table of OpenFace with a frame 0."""
    plain = "video,frame,valence\na,1,0.5\nb,3,-0.5\n"
    crops = "input,frame,FaceScore,AU12\nout/a/00003.jpg,0,0.9,0.5\nout/b/00001.jpg,1,0.9,0.25\n"
    zero = "frame, confidence, success, AU01_c\n0, 0.9, 1, 1\n2, 0.9, 1, 0\n"
    for name, text, expected in (
        ("plain", plain, {"a": {1: [0.5]}, "b": {3: [-0.5]}}),
        ("crops", crops, {"a": {3: [0.5]}, "b": {1: [0.25]}}),
        ("a", zero, {"a": {1: [1], 3: [0]}}),
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.csv").write_text(text)
        store, _ = imported(folder, folder)
        assert {video: rows(store, video) for video in store.videos("f")} == expected


def test_a_frame_that_is_listed_twice_is_not_said_to_have_several_faces(tmp_path: Path) -> None:
    """The surest row counts, of equal ones the first; of py-feat every row is a face, of others each `face_id`."""
    for number, (text, expected, note) in enumerate((
        ("frame,AU01_r\n1,.5\n1,1\n2,2\n", {1: [0.5], 2: [2]}, "1 video has frames that are listed more than once, a 1 of"),
        ("frame,face_id,confidence,AU01_r\n1,0,.8,.5\n1,0,.9,1\n", {1: [1]}, "1 video has frames that are listed more than"),
        ("frame,face_id,confidence,AU01_r\n1,0,.8,.5\n1,1,.9,1\n", {1: [1]}, "1 video has frames with several faces, a 1 of"),
        ("frame,FaceScore,AU01\n0,.8,.5\n0,.9,1\n", {1: [1]}, "1 video has frames with several faces, a 1 of them"),
    )):  # fmt: skip
        folder = tmp_path / f"{number}"
        folder.mkdir()
        (folder / "a.csv").write_text(text)
        store, notes = imported(folder, folder)
        assert rows(store, "a") == expected
        assert next(one for one in notes if "video has frames" in one).startswith(note) and len(notes) == 2


def test_tables_without_a_face_or_of_two_programs_and_other_files_are_refused(
    run_cli: Callable[..., Result], tmp_path: Path
) -> None:
    header = "frame,success,confidence,AU01_r\n"
    pyfeat = "frame,FaceScore,AU01,AU02\n0,.9,1,0\n"
    unseen = f"{header}1,0,0,0\n2,1,.9,nan\n"
    for files, code, *words in (
        ({"a.csv": unseen}, 1, "a.csv has no row with a face and finite numbers among its 2 rows."),
        ({"a.csv": unseen, "b.csv": unseen}, 1, "The 2 tables in", "among their 4 rows. Write them again."),
        ({"a.csv": header}, 1, "a.csv has no rows after its header. Write the table again."),
        ({"a.csv": f"{header}1,1,.9,0\n", "b.csv": pyfeat}, 2, "tables of OpenFace 2 (a.csv) and of py-feat (b.csv)"),
        ({"a.txt": "", "b.txt": "", "c": ""}, 1, "it has 2 .txt files (a.txt), 1 file (c). Convert it"),
        ({"a.csv": f"{header}1,1,.9,0\n600001,0,0,0\n"}, 1, "has frame 600,001, and 2 rows in all"),
    ):
        folder = tmp_path / "in"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        result = run_cli("store", "import", folder, "--store", tmp_path / "s", "--fps", "30", "--feature", "f")
        output = " ".join(result.output.split())
        assert result.exit_code == code and [word for word in words if word not in output] == []
        assert "done 1" not in output and "Next" not in output
        shutil.rmtree(folder)


def test_columns_that_are_not_known_are_named_with_what_is_near(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("frame, success, confidence, AU01_r, AU12r\n1, 1, .9, .5, .25\n")
    _, notes = imported(tmp_path, tmp_path)
    assert notes[-1].startswith("columns that are not known are left out: 'AU12r'. Did you mean AU12_r")
    (tmp_path / "a.csv").write_text("frame, valance\n1, 0.5\n")
    with pytest.raises(
        DataError, match=r"no known layout .* a\.csv has no number of a frame .* Did you mean valence\?"
    ):
        imported(tmp_path, tmp_path)
    with pytest.raises(UsageError, match=r"no columns 'gazes'\. Did you mean gaze or"):
        imported(GOLDEN / "openface2", tmp_path, "gazes")
    for name, header, words in (
        ("a.csv", "timestamp;success;AU01_r", "a.csv has 'AU01_r', but no number of the frame. Add a column frame"),
        ("a.csv", "Frame,AU01_r", "Call its column 'Frame' frame."),
        ("a.csv", "frame|success|AU01_r", "'frame|success|AU01_r'; separate columns by commas, semicolons or tabs"),
        ("a.csv.gz", "", f"a.csv.gz is compressed. Unpack it: gunzip {tmp_path}"),
    ):
        (tmp_path / "a.csv").unlink(missing_ok=True)
        (tmp_path / name).write_text(f"{header}\n0,1,1\n")
        with pytest.raises(DataError, match=re.escape(words)):
            imported(tmp_path, tmp_path)


def test_what_is_wrong_is_named(run_cli: Callable[..., Result], tmp_path: Path) -> None:
    shutil.copytree(GOLDEN / "openface2", tmp_path / "in")
    text = (tmp_path / "in" / "first.csv").read_text()
    (tmp_path / "in" / "second.csv").write_text(text.replace("0.50, 1.75", "high, 1.75"))
    (tmp_path / "in" / "third.csv").write_text("frame, success, AU01_r\n1, 1, 0\n")
    (tmp_path / "in" / "plain.csv").write_text("frame, AU01_r\n1, 0\n")  # of no known program
    (tmp_path / "in" / "fourth.csv").write_text(text.replace("5, 0, 0.133", "5, 0"))
    command = ("store", "import", tmp_path / "in", "--store", tmp_path / "s", "--fps", "30", "--feature", "f")
    for options, words in (
        (("--columns", "au"), ("second.csv line 3: `AU01_r` is 'high', not a number",
                               "third.csv has other columns than first.csv (AU12_r)",
                               "plain.csv has other columns than first.csv (AU12_r)",
                               "fourth.csv line 6 has 27 cells, its header 28")),
        (("--columns", "AU01_r", "--face", "7"), ("has no face '7': it has 0, 1.",)),
    ):  # fmt: skip
        result = run_cli(*command, *options)
        assert result.exit_code == 1
        output = " ".join(result.output.split())
        assert [word for word in words if word not in output] == []
    (tmp_path / "latin").mkdir()
    (tmp_path / "latin" / "a.csv").write_bytes("frame,AU01_r,Gef\xfchl\n1,0,0\n".encode("latin-1"))
    assert_refused(
        run_cli("store", "import", tmp_path / "latin", *command[3:]), 1, "a.csv cannot be read as text", "UTF-8"
    )
    np.save(tmp_path / "in" / "x.npy", np.zeros((3, 2)))
    assert_refused(run_cli(*command), 2, "contains one .npy per video and tables of faces")
