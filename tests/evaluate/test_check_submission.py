"""The checker of submission files: each kind of mistake with its line, counts of the others, and exit codes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from abaw.core.errors import DataError, UsageError
from abaw.core.tasks import TASKS
from abaw.evaluate.submission.check import Check, check_submission
from abaw.evaluate.submission.sample_files import read_sample
from abaw.tests.support.paths import DATA

GOLDEN = DATA / "golden"
N_COLUMNS = {"va": 3, "expr": 2, "au": 13, "mtl": 16, "lsd": 2}


def check(path: Path, task: str = "va") -> Check:
    return check_submission(path, read_sample(GOLDEN / f"sample_{task}.txt"))


def changed(tmp_path: Path, change: Callable[[list[str]], object], task: str = "va") -> Check:
    """Check the golden file of a task after its lines were changed in place; line n is number n - 1."""
    lines = (GOLDEN / f"predictions_{task}.txt").read_text().splitlines()
    change(lines)
    path = tmp_path / "p.txt"
    path.write_text("\n".join(lines) + "\n")
    return check(path, task)


def replace_line(line: int, text: str) -> Callable[[list[str]], object]:
    """Replace a line, counted from 1."""
    return lambda lines: lines.__setitem__(line - 1, text)


@pytest.mark.parametrize("task", sorted(N_COLUMNS))
def test_golden_files_are_as_wanted(task: str) -> None:
    path = GOLDEN / f"predictions_{task}.txt"
    assert {line.count(",") + 1 for line in path.read_text().splitlines()[1:]} == {N_COLUMNS[task]}
    assert check(path, task) == (Check(3, 0, "", {}) if task == "lsd" else Check(7, 2, "", {}))


def test_forms_that_do_not_matter(tmp_path: Path) -> None:
    content = (GOLDEN / "predictions_va.txt").read_bytes()
    path = tmp_path / "p.txt"
    for same in (content.replace(b"\n", b"\r\n"), content.removesuffix(b"\n"), content.replace(b"0.500000", b"+5e-1")):
        path.write_bytes(same)
        assert check(path).first == ""


WRONG = {
    "wrong header": (
        replace_line(1, "image,valence,arousal"),
        "line 1: the header should be 'image_location,valence,arousal', found 'image,valence,arousal'.",
        {"wrong header": 1},
    ),
    "no header": (
        lambda lines: lines.pop(0),
        "line 1: the header should be 'image_location,valence,arousal', found 'a_right/00001.jpg,0.000000,0.333252'.",
        {"wrong header": 1, "missing row": 1},
    ),
    "two rows changed places": (
        lambda lines: lines.insert(3, lines.pop(4)),
        "line 4: a_left/00003.jpg is out of order: a_left/00002.jpg should be here, which is on line 5.",
        {"row out of order": 2},
    ),
    "missing rows": (
        lambda lines: lines.__delitem__(slice(3, 5)),
        "line 4: a_left/00002.jpg should be here and is missing.",
        {"missing row": 2},
    ),
    "first row missing": (
        lambda lines: lines.pop(1),
        "line 2: a_right/00001.jpg should be here and is missing.",
        {"missing row": 1},
    ),
    "last row missing": (
        lambda lines: lines.pop(),
        "line 8: a_right/00002.jpg should be here and is missing.",
        {"missing row": 1},
    ),
    "double row": (
        lambda lines: lines.insert(5, lines[2]),
        "line 6: a_left/00001.jpg is already on line 3.",
        {"double row": 1},
    ),
    "unknown image": (
        lambda lines: lines.append("b/00001.jpg,0,0"),
        "line 9: 'b/00001.jpg' is not in the sample.",
        {"row that is not in the sample": 1},
    ),
    "image of another name": (
        replace_line(4, "a_left/2.jpg,0,0"),
        "line 4: 'a_left/2.jpg' is not in the sample, which has a_left/00002.jpg.",
        {"row that is not in the sample": 1, "missing row": 1},
    ),
    "value too many": (
        replace_line(5, "a_left/00003.jpg,0.1,0.2,0.3"),
        "line 5: 2 values separated by commas are expected (valence, arousal), found 'a_left/00003.jpg,0.1,0.2,0.3'.",
        {"row with a wrong number of columns": 1},
    ),
    "bare comma": (
        replace_line(5, "a_left/00003.jpg,"),
        "line 5: 2 values separated by commas are expected (valence, arousal), found 'a_left/00003.jpg,'.",
        {"row with a wrong number of columns": 1},
    ),
    "semicolons": (
        replace_line(5, "a_left/00003.jpg;0.1;0.2"),
        "line 5: 2 values separated by commas are expected (valence, arousal), found 'a_left/00003.jpg;0.1;0.2'.",
        {"row with a wrong number of columns": 1, "row that is not in the sample": 1, "missing row": 1},
    ),
    "space after a comma": (
        replace_line(5, "a_left/00003.jpg,0.1, 0.2"),
        "line 5: arousal should be a number from -1 to 1, found ' 0.2'.",
        {"row with a wrong value": 1},
    ),
    "empty line": (
        lambda lines: lines.insert(4, ""),
        "line 5: 2 values separated by commas are expected (valence, arousal), found ''.",
        {"row with a wrong number of columns": 1, "row that is not in the sample": 1},
    ),
    "out of range": (
        replace_line(3, "a_left/00001.jpg,-1.000001,1"),
        "line 3: valence should be a number from -1 to 1, found '-1.000001'.",
        {"row with a wrong value": 1},
    ),
    "not annotated": (
        replace_line(3, "a_left/00001.jpg,0,-5"),
        "line 3: arousal should be a number from -1 to 1, found '-5'.",
        {"row with a wrong value": 1},
    ),
    "NaN": (
        replace_line(3, "a_left/00001.jpg,0.1,nan"),
        "line 3: arousal should be a number from -1 to 1, found 'nan'.",
        {"row with a wrong value": 1},
    ),
    "no number": (
        replace_line(3, "a_left/00001.jpg,0x1,0"),
        "line 3: valence should be a number from -1 to 1, found '0x1'.",
        {"row with a wrong value": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_first_mistake_and_counts(tmp_path: Path, name: str) -> None:
    change, sentence, counts = WRONG[name]
    found = changed(tmp_path, change)
    assert found.first == f"{tmp_path / 'p.txt'} {sentence}"
    assert found.counts == counts


@pytest.mark.parametrize(
    ("task", "line", "text", "said"),
    [
        ("expr", 4, "a_left/00002.jpg,8", "line 4: expression should be an integer from 0 to 7, found '8'"),
        ("expr", 4, "a_left/00002.jpg,-1", "line 4: expression should be an integer from 0 to 7, found '-1'"),
        ("expr", 4, "a_left/00002.jpg,3.0", "line 4: expression should be an integer from 0 to 7, found '3.0'"),
        ("expr", 4, "a_left/00002.jpg,nan", "line 4: expression should be an integer from 0 to 7, found 'nan'"),
        ("expr", 4, "a_left/00002.jpg,0,0,0,1,0,0,0,0", "line 4: one value is expected (expression), found"),
        ("au", 3, "a_left/00001.jpg,1,0,0,0,0,0,0,0,0,0,0,0.9", "line 3: AU26 should be 0 or 1, found '0.9'"),
        ("au", 3, "a_left/00001.jpg,1,0,2,0,0,0,0,0,0,0,0,0", "line 3: AU4 should be 0 or 1, found '2'"),
        ("au", 3, "a_left/00001.jpg,1,0,0,0,0,0,0,0,0,0,0", "line 3: 12 values separated by commas are expected (AU1, AU2,"),
        ("mtl", 3, "a_left/00001.jpg,0.5,-0.25,0", "line 3: 15 values separated by commas are expected (valence,"),
        ("mtl", 3, "a_left/00001.jpg,0.5,0.5,9" + ",0" * 12, "line 3: expression should be an integer from 0 to 7, found '9'"),
        ("mtl", 3, "a_left/00001.jpg,0.5,2,0" + ",0" * 12, "line 3: arousal should be a number from -1 to 1, found '2'"),
        ("lsd", 2, "10.jpg,6", "line 2: expression should be an integer from 0 to 5, found '6'"),
        ("lsd", 2, "010.jpg,2", "line 2: '010.jpg' is not in the sample"),
    ],
)  # fmt: skip
def test_values_of_the_other_formats(tmp_path: Path, task: str, line: int, text: str, said: str) -> None:
    assert said in changed(tmp_path, replace_line(line, text), task).first


def test_first_line_is_told_whatever_the_kind(tmp_path: Path) -> None:
    """A value on line 7, a missing row at line 5 and two rows that changed places on lines 3 and 4."""

    def spoil(lines: list[str]) -> None:
        lines[2], lines[3] = lines[3], lines[2]
        lines[6] = "a_left/00005.jpg,2,0"
        del lines[4]

    found = changed(tmp_path, spoil)
    assert (
        "line 3: a_left/00002.jpg is out of order: a_left/00001.jpg should be here, which is on line 4." in found.first
    )
    assert found.counts == {"row with a wrong value": 1, "missing row": 1, "row out of order": 2}


def test_byte_order_mark_is_told(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_bytes(b"\xef\xbb\xbf" + (GOLDEN / "predictions_va.txt").read_bytes())
    found = check(path)
    assert "line 1: it begins with a byte order mark" in found.first
    assert found.counts == {"byte order mark": 1}


def test_header_alone_and_an_empty_file(tmp_path: Path) -> None:
    assert changed(tmp_path, lambda lines: lines.__delitem__(slice(1, None))).counts == {"missing row": 7}
    path = tmp_path / "empty.txt"
    path.touch()
    assert check(path).counts == {"wrong header": 1, "missing row": 7}


def test_a_task_that_is_not_the_samples(tmp_path: Path) -> None:
    sample = read_sample(GOLDEN / "sample_va.txt")
    with pytest.raises(UsageError, match=r"sample_va\.txt is a sample of task va, not au"):
        check_submission(GOLDEN / "predictions_va.txt", sample, TASKS["au"])
    assert check_submission(GOLDEN / "predictions_va.txt", sample, TASKS["va"]).first == ""
    assert "line 1: the header" in check_submission(GOLDEN / "predictions_au.txt", sample).first


# one file per video


@pytest.mark.parametrize("task", ["va", "expr", "au"])
def test_golden_folders_are_as_wanted(task: str) -> None:
    videos = read_sample(GOLDEN / "videos.txt")
    for named in (None, TASKS[task]):
        assert check_submission(GOLDEN / f"videos_{task}", videos, named) == Check(6, 2, "", {})


def test_folders_with_mistakes(tmp_path: Path) -> None:
    videos, folder = read_sample(GOLDEN / "videos.txt"), tmp_path / "out"
    shutil.copytree(GOLDEN / "videos_va", folder)
    (folder / "b.txt").write_text("valence,arousal\n0,0\n")
    found = check_submission(folder, videos)
    assert found.first == f"{folder / 'b.txt'} belongs to no video in {videos.path}."
    assert found.counts == {"file of no video": 1}
    (folder / "a_left.txt").write_text("valence,arousal\n0,0\n0;0\n0,0\n7,0\n0,7\n")
    found = check_submission(folder, videos)
    assert found.first.startswith(f"{folder / 'a_left.txt'} line 3: 2 values separated by commas are expected")
    wrong = {"row with a wrong number of columns": 1, "row with a wrong value": 2}
    assert found.counts == {**wrong, "file of no video": 1}
    (folder / "a_right.txt").unlink()
    found = check_submission(folder, videos)
    assert found.first == f"{folder / 'a_right.txt'} is missing."
    assert found.counts == {"missing file": 1, **wrong, "file of no video": 1}


def test_header_of_another_task_and_no_rows(tmp_path: Path) -> None:
    videos, folder = read_sample(GOLDEN / "videos.txt"), tmp_path / "out"
    shutil.copytree(GOLDEN / "videos_va", folder)
    (folder / "a_left.txt").write_text("valence,arousal\n")
    found = check_submission(folder, videos)
    assert (found.n_rows, found.counts) == (2, {"file without rows": 1})
    assert found.first == f"{folder / 'a_left.txt'} line 1: there are no rows after the header."
    assert "line 1: the header should be 'Neutral,Anger" in check_submission(folder, videos, TASKS["expr"]).first


def test_folders_that_are_none(tmp_path: Path) -> None:
    videos = read_sample(GOLDEN / "videos.txt")
    with pytest.raises(
        DataError, match=r"is a list of videos and needs a folder with one file per video, but .* is not a folder"
    ):
        check_submission(GOLDEN / "predictions_va.txt", videos)
    with pytest.raises(UsageError, match=r"has no file with the header of a known task. Choose the task with --task"):
        check_submission(tmp_path, videos)
    with pytest.raises(
        UsageError, match="Task mtl has no format for one submission file per video; tasks with one: va, expr, au"
    ):
        check_submission(tmp_path, videos, TASKS["mtl"])
    with pytest.raises(DataError, match="is a folder, where a file should be"):
        check(tmp_path)


# the command


def test_command_says_what_it_found(run_cli, tmp_path: Path) -> None:
    sample = GOLDEN / "sample_va.txt"
    good = run_cli("check-submission", GOLDEN / "predictions_va.txt", "--sample", sample)
    assert (good.exit_code, good.stderr) == (0, "")
    assert good.stdout == f"{GOLDEN / 'predictions_va.txt'}: 7 rows, 2 videos, no problems.\n"
    images = run_cli("check-submission", GOLDEN / "predictions_lsd.txt", "--sample", GOLDEN / "sample_lsd.txt")
    assert images.stdout == f"{GOLDEN / 'predictions_lsd.txt'}: 3 rows, no problems.\n"
    changed(tmp_path, lambda lines: lines.__delitem__(slice(3, 5)))
    bad = run_cli("check-submission", tmp_path / "p.txt", "--sample", sample)
    assert (bad.exit_code, bad.stdout) == (1, "")
    said = "line 4: a_left/00002.jpg should be here and is missing. In all: missing row: 2."
    assert bad.stderr == f"Error: {tmp_path / 'p.txt'} {said}\n"


def test_wrong_use_of_the_command(run_cli) -> None:
    assert "Missing option '--sample'" in run_cli("check-submission", GOLDEN / "predictions_va.txt").stderr
    options = ("check-submission", GOLDEN / "predictions_va.txt", "--sample", GOLDEN / "sample_va.txt", "--task")
    assert run_cli(*options, "au").exit_code == 2
    assert "Unknown task 'smell'" in run_cli(*options, "smell").stderr
