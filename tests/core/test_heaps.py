"""Few heaps for threads, where the C library is glibc."""

import platform
import subprocess
import sys

import pytest

from abaw.core.heaps import share_heaps
from abaw.tests.support.command_line import process_environment

COUNT_HEAPS = """
import ctypes, sys, threading
from abaw.core.heaps import share_heaps

if len(sys.argv) > 2:
    assert share_heaps()
together = threading.Barrier(8)

def fill() -> None:
    together.wait()
    blocks = [bytes(100_000) for _ in range(20)]
    together.wait()

threads = [threading.Thread(target=fill) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
library = ctypes.CDLL(None)
library.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(library.fopen(sys.argv[1].encode(), b"w"))
library.malloc_info(0, file)
library.fclose(file)
"""


def test_a_number_that_the_user_has_set_stays():
    assert not share_heaps({"MALLOC_ARENA_MAX": "4"})
    assert not share_heaps({"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"})


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such heaps")
def test_threads_share_heaps(tmp_path):
    n_heaps = []
    environment = {name: value for name, value in process_environment().items() if "MALLOC" not in name}
    environment.pop("GLIBC_TUNABLES", None)
    for more in ((), ("shared",)):
        file = tmp_path / f"heaps{len(more)}.xml"
        subprocess.run([sys.executable, "-c", COUNT_HEAPS, str(file), *more], env=environment, check=True)
        n_heaps.append(file.read_text().count("<heap nr="))
    assert n_heaps[0] > 2 >= n_heaps[1], n_heaps
