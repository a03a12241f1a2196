"""Files and folders are written whole or not at all."""

import json
import os

import pytest

from abaw.core.claim_files import claimed
from abaw.core.errors import UsageError
from abaw.core.files import save_json, writing


def test_a_file_is_replaced_when_it_is_whole(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with writing(file) as partial:
        partial.write_text("new")
        assert file.read_text() == "old" and partial.parent == tmp_path
    assert file.read_text() == "new" and list(tmp_path.iterdir()) == [file]


def test_a_folder_is_made_like_a_file(tmp_path):
    with writing(tmp_path / "a") as partial:
        (partial / "b").mkdir(parents=True)
    assert list(tmp_path.rglob("*")) == [tmp_path / "a", tmp_path / "a" / "b"]


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
@pytest.mark.parametrize("is_folder", [False, True])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path, error, is_folder):
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(error), writing(file) as partial:
        if is_folder:
            partial.mkdir()
            (partial / "b").write_text("half")
        else:
            partial.write_text("half")
        raise error
    assert file.read_text() == "old" and list(tmp_path.iterdir()) == [file]


def test_what_a_killed_process_left_is_replaced_and_links_are_not_followed(tmp_path):
    file, other = tmp_path / "a.json", tmp_path / "other.txt"
    other.write_text("kept")
    file.symlink_to(other)
    for name in ("a.json.partial", "a.json.12-0123abcd.partial"):
        (tmp_path / name).symlink_to(other)
    (tmp_path / "a.json.13-0123abcd.partial").mkdir()
    (tmp_path / "ab.json.12-0123abcd.partial").touch()
    with claimed(file):
        save_json(file, {"a": [1, 2]})
    (tmp_path / "ab.json.12-0123abcd.partial").unlink()  # of another file
    assert json.loads(file.read_text()) == {"a": [1, 2]} and not file.is_symlink()
    assert other.read_text() == "kept" and len(list(tmp_path.iterdir())) == 2


def test_a_link_to_a_folder_in_place_of_a_temporary_file_is_replaced(tmp_path):
    file, folder = tmp_path / "a.json", tmp_path / "folder"
    folder.mkdir()
    (folder / "other.txt").write_text("kept")
    (tmp_path / "a.json.partial").symlink_to(folder)
    with claimed(file):
        save_json(file, [1])
    assert json.loads(file.read_text()) == [1] and not file.is_symlink()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.json", "folder", "other.txt"]


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(UsageError, match="is a folder, but a file is to be written there"), writing(tmp_path / "a.txt"):
        raise AssertionError("nothing is written")


@pytest.mark.parametrize("letter", ["n", "é", "脸"])
def test_the_longest_names_are_written(tmp_path, letter):
    n_bytes = 255  # the most that file systems take; `.partial` does not fit behind it
    file = tmp_path / (letter * (n_bytes // len(letter.encode())))
    with writing(file) as partial:
        partial.write_text("new")
    assert file.read_text() == "new" and list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", ["a.json", "n" * 255])
def test_two_writers_of_one_file_do_not_share_a_temporary_file(tmp_path, name):
    """Neither writes into the file of the other, nor deletes it, claim or no claim."""
    file = tmp_path / name
    with claimed(tmp_path):
        with writing(file) as first:
            first.write_text("one")
            with writing(file) as second:
                assert second != first and str(os.getpid()) in second.name and second.suffix == ".partial"
                second.write_text("two")
            assert file.read_text() == "two" and first.read_text() == "one"
        assert file.read_text() == "one" and list(tmp_path.iterdir()) == [file]


def test_what_a_process_without_a_claim_left_stays_until_a_claim_covers_it(tmp_path):
    file, left = tmp_path / "scores.json", tmp_path / "scores.json.12-0123abcd.partial"
    left.touch()
    save_json(file, 1)
    with claimed(tmp_path / "other.json"):
        save_json(file, 2)
    assert left.exists(), "it may be of a living process"
    with claimed(tmp_path / "other.json", also=[file]):
        save_json(file, 3)
        left.touch()
        save_json(file, 4)  # under one claim nothing is left after the first time
    assert left.exists() and json.loads(file.read_text()) == 4
    with claimed(tmp_path):
        save_json(file, 5)
    assert list(tmp_path.iterdir()) == [file]
