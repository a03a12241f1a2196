"""Errors of the operating system: which file, what happened, and what to do."""

import errno
import os
import resource
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from abaw.core.errors import DataError
from abaw.core.files import writing
from abaw.core.output_stream import OutputStream
from abaw.core.system_errors import describe_system_error, path_of, system_error

NOBODY = 65534


def describe(number, path="runs/a/config.json", other_place=""):
    return describe_system_error(OSError(number, os.strerror(number), path), other_place)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ENOSPC", "Free some space"),
        ("EDQUOT", "`quota -s`"),
        ("EFBIG", "`ulimit -f unlimited`"),
        ("EROFS", "make the disk writable"),
        ("EIO", "check the disk"),
        ("EMFILE", "`ulimit -n "),
        ("ENFILE", "close some"),
        ("EXDEV", "another disk"),
        ("ENOLCK", "file locks"),
        ("ENOTCONN", "connect it"),
        ("ESTALE", "connect it"),
        ("ENAMETOOLONG", "a shorter one"),
        ("EISDIR", "A folder is where a file has to be"),
        ("EBUSY", "Another program uses it"),
        ("ENOENT", "make it"),
        ("EINVAL", "Check that file"),
    ],
)
def test_each_names_the_file_its_cause_and_a_remedy(name, words):
    number = getattr(errno, name)
    sentence = describe(number)
    assert "runs/a/config.json" in sentence and f"({os.strerror(number)})" in sentence and words in sentence
    assert "\n" not in sentence and sentence.endswith(".")


@pytest.mark.parametrize(("name", "words"), [("EAGAIN", "`ulimit -u`"), ("ENOMEM", "memory is used up")])
def test_resources_of_the_process_name_no_file(name, words):
    assert words in describe(getattr(errno, name), None)


def test_a_renamed_file_is_known_by_its_target_and_a_partial_one_by_its_name(tmp_path):
    assert str(path_of(OSError(18, "Invalid cross-device link", "a.partial", None, "a"))) == "a"
    for name, wanted in (("x", "new/x"), ("", "new"), (None, "new")):
        with pytest.raises(OSError, match="Input/output error") as caught, writing(tmp_path / "new") as partial:
            raise OSError(5, "Input/output error", None if name is None else str(partial / name))
        assert caught.value.filename == str(tmp_path / wanted)


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError) as caught:
        (tmp_path / "file" / "a" / "b").open("w")
    assert f"{tmp_path / 'file'} is a file, not a folder" in describe_system_error(caught.value)


def test_a_full_folder_of_temporary_files_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert f"Free some space in {tmp_path}, or name a folder with more in $TMPDIR" in describe(28, str(tmp_path / "x"))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [str(tmp_path / "missing")])
    with pytest.raises(FileNotFoundError) as caught:
        tempfile.TemporaryFile()  # noqa: SIM115
    assert "`mkdir -p ~/tmp && export TMPDIR=~/tmp`" in describe_system_error(caught.value)


def as_nobody(work):
    """What `work()` returns in a process of another user."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.write(writer, work().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as stream:
        text = stream.read()
    os.waitpid(pid, 0)
    return text


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("is_own", [False, True])
def test_who_may_open_a_folder_is_asked_and_a_command_that_opens_it_is_named(is_own):
    """In a process of another user: of a folder of root's, another place is named; of its own, chmod, which helps."""

    def write():
        try:
            (folder / "a").write_text("")
        except OSError as error:
            return describe_system_error(error, "Choose another place with --runs")
        return ""

    with tempfile.TemporaryDirectory() as place:
        Path(place).chmod(0o755)
        folder = Path(place) / "runs here"
        folder.mkdir(mode=0o555)
        if is_own:
            os.chown(folder, NOBODY, NOBODY)
        sentence = as_nobody(write)
        if is_own:
            assert (
                sentence == f"{folder}/a cannot be written (Permission denied). Allow it with `chmod u+w '{folder}'`."
            )
            subprocess.run(["sh", "-c", sentence.split("`")[1]], user=NOBODY, check=True)
            assert as_nobody(write) == "" and (folder / "a").exists()
        else:
            assert sentence == (
                f"{folder}/a cannot be written (Permission denied): the folder {folder} belongs to root. "
                "Choose another place with --runs."
            )


# libraries that lose the number


def test_errors_in_words_of_libraries_are_those_of_the_system(tmp_path):
    # by numpy's tofile on a full disk
    assert system_error(OSError("202860 requested and 4032 written")).errno == errno.ENOSPC
    with pytest.raises(safetensors.SafetensorError) as missing:
        safetensors.numpy.save_file({"a": np.zeros(3)}, tmp_path / "missing" / "a.safetensors")
    assert system_error(missing.value).errno == errno.ENOENT
    assert system_error(MemoryError()).errno == errno.ENOMEM
    assert system_error(RuntimeError("can't start new thread")).errno == errno.EAGAIN
    assert system_error(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")).errno == errno.ENOMEM
    assert (
        system_error(OSError("Can't write data (file write failed: errno = 122, error message = '...')")).errno == 122
    )
    assert system_error(ExceptionGroup("two", [ValueError("x"), PermissionError(13, "no")])).errno == 13


@pytest.mark.parametrize(
    "error",
    [KeyError("[Errno 28]"), ValueError("No space left on device"), TypeError("x"), OSError("odd"), OSError(9, "bad")],
)
def test_faults_of_our_own_are_not_of_the_system(error):
    assert system_error(error) is None
    assert system_error(DataError("a sentence (Permission denied)")) is None


def test_an_error_that_another_was_raised_from_counts_but_not_one_that_was_handled_before():
    try:
        try:
            raise PermissionError(13, "Permission denied", "a")
        except OSError as first:
            raise ValueError("cannot") from first
    except ValueError as error:
        assert system_error(error).filename == "a"
    try:
        try:
            raise PermissionError(13, "Permission denied", "a")
        except OSError:
            raise KeyError("a fault in the handler")  # noqa: B904
    except KeyError as error:
        assert system_error(error) is None


# streams that keep an error for later


def test_a_stream_keeps_the_first_error_and_raises_it_at_the_end(tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught, OutputStream(tmp_path / "a") as stream:
            assert stream.write(b"x" * 1500) == 1500  # the library does not notice
            assert stream.write(b"y") == 1
            stream.seek(0)
            assert stream.read(1200) == b"x" * 1000 + bytes(200)
            raise RuntimeError("what follows from it")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"x" * 1000, "nothing after the error"


def test_a_stream_without_errors_is_a_file_and_other_errors_pass(tmp_path):
    with OutputStream(tmp_path / "a") as stream:
        stream.write(b"abcdef")
        stream.seek(2)
        stream.write(memoryview(np.array([65, 66], dtype=np.uint8)))
        stream.truncate(5)
    assert (tmp_path / "a").read_bytes() == b"abABe"
    with pytest.raises(KeyboardInterrupt), OutputStream(tmp_path / "a"):
        raise KeyboardInterrupt
