"""Two processes never write one target at once: living, dead, suspended, in other systems, and with clocks that jump."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from abaw.core import claim_files
from abaw.core.claim_files import BusyError, Claim, LostClaimError, check_claims, claimed, drop_dead_claim
from abaw.core.files import save_json, writing
from abaw.tests.support.processes import until

# Holds a claim, and writes its file again and again.
WRITER = """
import sys, time
from pathlib import Path
from abaw.core import claim_files
from abaw.core.files import save_json
folder = Path(sys.argv[1])
claim_files.BEAT_S = claim_files.CHECK_S = 0.05
if "elsewhere" in sys.argv:
    claim_files._pid_namespace = lambda: "pid:[1]"
try:
    with claim_files.claimed(folder / "run"):
        for number in range(10**9):
            save_json(folder / "run.json", number)
            time.sleep(0.01)
except Exception as error:
    print(type(error).__name__, error)
"""
ELSEWHERE = {"boot": "another", "namespace": "pid:[1]"}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(claim_files, "WATCH_S", 0.4)
    monkeypatch.setattr(claim_files, "DEAD_S", 2.0)
    monkeypatch.setattr(claim_files, "CHECK_S", 0.0)


def start_writer(folder, env, *how, before=()):
    process = subprocess.Popen(
        [*before, sys.executable, "-c", WRITER, str(folder), *how], env=env, stdout=subprocess.PIPE, text=True
    )
    until(lambda: (folder / "run.json").exists(), "it writes")
    return process


def put_claim(file, **changes):
    claim = replace(Claim.make(), **changes)
    file.write_text(f"{json.dumps(asdict(claim))}\n{claim.beat:020.6f}\n")
    return claim


def test_the_second_names_the_process_at_work_until_it_ends(tmp_path, process_env):
    writer = start_writer(tmp_path, process_env)
    sentence = f"Another command is writing {tmp_path / 'run'}: process {writer.pid} on {socket.gethostname()} (`-c "
    with pytest.raises(BusyError, match=re.escape(sentence)) as error, claimed(tmp_path / "run"):
        pass
    assert str(error.value).endswith("`). Wait for it, or stop it and run this again.")
    with claimed(tmp_path / "other"):
        pass
    writer.kill()
    until(lambda: "zombie" in Path(f"/proc/{writer.pid}/status").read_text(), "it is dead, and nobody asked after it")
    with claimed(tmp_path / "run"):
        pass
    writer.communicate()
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".partial"] == ["run.json"]


@pytest.mark.parametrize("content", [b"", b"{}\n", b"[1]\n0\n", b"\xff" * 9999, b"\x00"])
def test_a_claim_that_was_cut_off_stops_nobody(tmp_path, content, monkeypatch):
    monkeypatch.setattr(claim_files, "HALF_WRITTEN_S", 0.05)
    (tmp_path / ".a.claim").write_bytes(content)
    (tmp_path / ".a.claim.partial").touch()  # of one that was killed while it deleted a dead claim
    assert Claim.living_on(tmp_path / "a") is None
    with claimed(tmp_path / "a"):
        assert json.loads((tmp_path / ".a.claim").read_text().splitlines()[0])["process"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_number_that_another_process_has_now_does_not_count(tmp_path):
    put_claim(tmp_path / ".a.claim", start="1")
    assert Claim.living_on(tmp_path / "a") is None
    with claimed(tmp_path / "a"):
        pass
    put_claim(tmp_path / ".a.claim", start="", boot="", namespace="", began=time.time() - 9999)  # as without /proc
    with claimed(tmp_path / "a"):
        pass
    put_claim(tmp_path / ".a.claim", start="", boot="", namespace="")
    with pytest.raises(BusyError), claimed(tmp_path / "a"):
        pass


def test_jumps_of_the_clock_change_nothing_on_one_system(tmp_path):
    for hours in (-1, 1):
        now = time.time() + 3600 * hours
        put_claim(tmp_path / ".a.claim", claimed=now, beat=now, began=now)
        with pytest.raises(BusyError), claimed(tmp_path / "a"):
            pass


@pytest.mark.parametrize("other", [ELSEWHERE, {"namespace": "pid:[1]"}, {"boot": "another"}])
@pytest.mark.parametrize("seconds_ago", [3600, -3600])
def test_another_system_is_alive_while_its_claim_changes(tmp_path, quick, caplog, other, seconds_ago):
    """Its clock may be an hour before or after ours; the name of the machine says nothing."""
    file, stop = tmp_path / ".a.claim", threading.Event()
    claim = put_claim(file, beat=time.time() - seconds_ago, **other)

    def beat():
        for number in range(1, 10**6):
            if stop.wait(0.05):
                return
            put_claim(file, **{**asdict(claim), "beat": claim.beat + number})

    thread = threading.Thread(target=beat)
    thread.start()
    with pytest.raises(BusyError, match="process "), claimed(tmp_path / "a"):
        pass
    stop.set()
    thread.join()
    assert f"Waiting up to 0.4 s to see whether {claim.describe()} is still at work." in caplog.text
    with claimed(tmp_path / "a"):  # it is silent now
        pass


def test_another_system_that_was_heard_just_now_is_alive(tmp_path, quick):
    put_claim(tmp_path / ".a.claim", host="elsewhere", **ELSEWHERE)
    with pytest.raises(BusyError, match=f"process {os.getpid()} on elsewhere"), claimed(tmp_path / "a"):
        pass


@pytest.mark.parametrize("before", [(), ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")])
def test_a_process_whose_claim_was_taken_over_while_it_slept_writes_nothing_more(tmp_path, process_env, quick, before):
    if before and (not shutil.which("unshare") or subprocess.run([*before, "true"], capture_output=True).returncode):
        pytest.skip("no new PID namespaces here")
    writer = start_writer(tmp_path, process_env, *([] if before else ["elsewhere"]), before=before)
    with pytest.raises(BusyError), claimed(tmp_path / "run"):
        pass
    children = f"/proc/{writer.pid}/task/{writer.pid}/children"
    number = int(Path(children).read_text().split()[0]) if before else writer.pid
    os.kill(number, signal.SIGSTOP)
    time.sleep(claim_files.DEAD_S)
    with claimed(tmp_path / "run"):
        save_json(tmp_path / "run.json", "mine")
        os.kill(number, signal.SIGCONT)
        try:
            output, _ = writer.communicate(timeout=60)
        finally:
            writer.kill()
        check_claims()
    assert output.startswith(
        f"LostClaimError The claim of this command on {tmp_path / 'run'} was taken over by process"
    )
    assert json.loads((tmp_path / "run.json").read_text()) == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_nothing_is_moved_into_place_without_the_claim(tmp_path, quick):
    (tmp_path / "a").write_text("old")
    with claimed(tmp_path / "a"):
        other = put_claim(tmp_path / ".a.claim", process=1, token="other")
        with pytest.raises(LostClaimError, match="taken over by process 1 on"), writing(tmp_path / "a") as partial:
            partial.write_text("new")
    assert (tmp_path / "a").read_text() == "old" and sorted(path.name for path in tmp_path.iterdir()) == [
        ".a.claim",
        "a",
    ]
    assert other.token in (tmp_path / ".a.claim").read_text(), "the claim of the other is left alone"


def test_links_and_long_names(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    with claimed(tmp_path / "folder"), pytest.raises(BusyError), claimed(tmp_path / "link"):
        pass
    with claimed(tmp_path / "folder" / ("n" * 255)), pytest.raises(BusyError), claimed(tmp_path / "link" / ("n" * 255)):
        pass


def test_many_that_find_a_dead_claim_take_turns(tmp_path):
    at_work, most, n_done = [], [], []

    def take(number):
        start.wait()
        while True:
            try:
                with claimed(tmp_path / "a"):
                    at_work.append(number)
                    most.append(len(at_work))
                    time.sleep(0.001)
                    at_work.remove(number)
                    n_done.append(number)
                    return
            except BusyError:
                time.sleep(0.001)

    for _ in range(4):
        put_claim(tmp_path / ".a.claim", start="1")
        start = threading.Barrier(6)
        threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert max(most) == 1 and len(n_done) == 24 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ["claim", "claim.partial"])
def test_what_a_process_left_that_was_killed_at_its_end_is_deleted_by_who_writes_nothing(tmp_path, ending):
    (tmp_path / f".x.{ending}").touch()
    drop_dead_claim(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    with claimed(tmp_path / "x"):
        drop_dead_claim(tmp_path / "x")
        assert (tmp_path / ".x.claim").exists()


def test_a_claim_that_this_process_could_not_delete_does_not_block_it(tmp_path, monkeypatch):
    def refuse(self, missing_ok=False):
        raise PermissionError(13, "Permission denied", str(self))

    with monkeypatch.context() as patched, claimed(tmp_path / "a"):
        patched.setattr(Path, "unlink", refuse)
    assert len(list(tmp_path.iterdir())) == 1
    with claimed(tmp_path / "a"), pytest.raises(BusyError), claimed(tmp_path / "a"):
        raise AssertionError("claimed twice")
    assert list(tmp_path.iterdir()) == []
