"""Whether a file is still the one that it was: other bytes, another time, or a copy."""

import os

import pytest

from abaw.media.file_content import SAMPLED_BYTES, content_of, has_content

SIZE = 6 * SAMPLED_BYTES
UNSAMPLED = 2 * SAMPLED_BYTES  # neither at the head, nor in the middle, nor at the tail


@pytest.mark.parametrize("changed", [0, SIZE // 2, SIZE - 1, UNSAMPLED, None])
@pytest.mark.parametrize("is_same_time", [False, True])
def test_a_file_of_equal_size_and_other_content_is_noticed(tmp_path, changed, is_same_time):
    file, bytes_of = tmp_path / "a.mp4", bytearray(os.urandom(SIZE))
    file.write_bytes(bytes_of)
    os.utime(file, ns=(0, 10**18))
    content = content_of(file)
    assert has_content(file, content)
    if changed is not None:
        bytes_of[changed] ^= 1
    file.write_bytes(bytes_of)
    os.utime(file, ns=(0, 10**18 + (not is_same_time)))
    # who sets the time back, and changes nothing that is sampled, is not noticed: the whole file is read after copies alone
    assert has_content(file, content) == (changed is None or (is_same_time and changed == UNSAMPLED))


def test_content_that_is_not_known_is_the_same(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"a")
    assert has_content(tmp_path / "a.mp4", "") and has_content(None, content_of(tmp_path / "a.mp4"))
    assert content_of(tmp_path / "none.mp4") == content_of(None) == content_of(tmp_path) == ""
    assert has_content(tmp_path / "none.mp4", content_of(tmp_path / "a.mp4")), "reading it says what is wrong"
