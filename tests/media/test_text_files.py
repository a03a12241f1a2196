"""Text files as other systems and editors leave them: labels, clip labels and tables of imports read them alike."""

import os
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from abaw.core.errors import DataError
from abaw.core.tasks import TASKS
from abaw.datasets import task_tables
from abaw.datasets.labels import read_labels
from abaw.datasets.named_people import read_people
from abaw.datasets.stills.still_files import table_rows
from abaw.datasets.transcripts import find_transcripts
from abaw.datasets.vgaf import read_clip_labels
from abaw.exchange.index import read_table
from abaw.extract.faces.given_faces import FacesInTable
from abaw.media import text_files
from abaw.media.face_tables import open_table, read_rows
from abaw.media.text_files import LONGEST_LINE, read_blocks, read_lines, read_text

ENDS = {"LF": "\n", "CRLF": "\r\n", "CR": "\r"}
MARKS = {"no mark": "utf-8", "UTF-8": "utf-8-sig", "UTF-16": "utf-16", "UTF-32": "utf-32"}
TAILS = {
    "no end of line": lambda end: "",
    "an end of line": lambda end: end,
    "an empty line": lambda end: end * 2,
    "spaces": lambda end: f"{end}  ",
    "a tab and an end": lambda end: f"{end}\t{end}",
    "a space that does not break": lambda end: f"{end}\xa0{end}",
    "Ctrl-Z": lambda end: f"{end}\x1a",
    "Ctrl-Z without an end": lambda end: "\x1a",
    "many of all kinds": lambda end: end.join(["", "", " ", "\t \xa0", "\u3000", "\x0c", "\u200b", "\x1a", ""]),
}
LABELS = {"va": ("0.5,-0.25", "-5,-5"), "expr": ("3", "-1"), "au": ("0,1,0,1,0,1,0,1,0,1,0,1", ",".join(["-1"] * 12))}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "a.txt"


# lines


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("tail", TAILS)
def test_lines_are_the_same_whatever_ends_them(file, mark, end, tail):
    lines = ["a,b", " x é ", "", "\x0b1\x0c\u20282\x85"]
    file.write_bytes((ENDS[end].join(lines) + TAILS[tail](ENDS[end])).encode(MARKS[mark]))
    assert read_lines(file) == lines
    assert [line for block in read_blocks(file) for line in block] == lines
    assert read_text(file).startswith("a,b\n x é \n\n\x0b1")


@pytest.mark.parametrize("content", ["", "\n", " \r\n\t", "\ufeff", "\x1a", "\xa0\n" * 5])
def test_a_file_that_looks_empty_has_no_lines(file, content):
    file.write_text(content, encoding="utf-8")
    assert read_lines(file) == list(read_blocks(file)) == []


def test_ends_of_different_systems_in_one_file(file):
    file.write_bytes(b"a\r\nb\rc\n\rd\n\n\n")
    assert read_lines(file) == ["a", "b", "c", "", "d"]


def test_what_is_no_text_is_said_in_a_sentence(file):
    for content in (b"\xff\xfe\x00\xd8", b"caf\xe9", b"\x80\x81"):
        file.write_bytes(content)
        with pytest.raises(
            DataError, match=r"a\.txt cannot be read as text \(.*\)\. Save it as UTF-8, or copy it again\."
        ):
            read_lines(file)
    with pytest.raises(DataError, match=r"gone\.txt cannot be read \(No such file or directory\)\. Copy it again\."):
        read_lines(file.with_name("gone.txt"))


def read_faces(file):
    table = open_table(file)
    return read_rows(table, table.columns)


@pytest.mark.parametrize(
    ("header", "read"),
    [
        ("", read_lines),
        ("valence,arousal\n", lambda file: list(read_blocks(file))),
        ("video,frame\n", read_table),
        ("frame,AU01_r\n", read_faces),
        ("video,person\n", read_people),
        ("path,label\n", lambda file: list(table_rows(file))),
        ("clip,text\n", lambda file: find_transcripts(file.parent, str(file))),
        ("Filename,Admiration,Amusement,Determination,Empathic Pain,Excitement,Joy\n",
         lambda file: task_tables.read_table(file, TASKS["emi"], "train")),
        ("frame,left,top,right,bottom\n", lambda file: list(FacesInTable(file, file))),
    ],
)  # fmt: skip
def test_a_line_that_does_not_end_is_refused_by_all_readers_of_tables(file, header, read):
    """Its cells would take fifty times their characters."""
    n = 8 * LONGEST_LINE
    file.write_text(header + "a," * (n // 2) + "a\n")
    tracemalloc.start()
    with pytest.raises(DataError, match=f"{file} has a line of more than 1,048,576 characters. Write a line for each"):
        read(file)
    peak, _ = tracemalloc.get_traced_memory()[1], tracemalloc.stop()
    is_streamed = header and not header.startswith("valence")  # other files are read whole
    assert peak < (n if is_streamed else 4 * n)


@pytest.mark.parametrize("read", [read_text, lambda file: read_labels(file, TASKS["va"]), read_table])
def test_a_pipe_is_not_waited_for(file, read):
    os.mkfifo(file)
    with pytest.raises(DataError, match=r"is a pipe, a socket or a device, where a file should be"):
        read(file)


# label files


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("task", LABELS)
def test_label_files_are_read_with_any_ends_of_lines_and_of_the_file(file, task, end, mark):
    for tail in TAILS.values():
        content = ENDS[end].join([TASKS[task].labels.header, *LABELS[task]]) + tail(ENDS[end])
        file.write_bytes(content.encode(MARKS[mark]))
        found = read_labels(file, TASKS[task])
        assert found.tolist() == [[float(cell) for cell in row.split(",")] for row in LABELS[task]]


def test_blocks_of_a_label_file_are_one_array_and_keep_the_numbers_of_lines(file, monkeypatch):
    monkeypatch.setattr(text_files, "BLOCK", 50)
    rng = np.random.default_rng(0)
    rows = rng.uniform(-1, 1, (1000, 2)).round(3)
    lines = [f"{valence:g},{arousal:g}" for valence, arousal in rows.tolist()]
    file.write_text("\n".join(["valence,arousal", *lines]))
    np.testing.assert_array_equal(read_labels(file, TASKS["va"]), rows.astype(np.float32))
    lines[700] = "0.5,1.5"
    file.write_text("\n".join(["valence,arousal", *lines]))
    with pytest.raises(
        DataError, match=r"a\.txt line 702: arousal should be -1 to 1, or -5 .*, found '1\.5'\. Correct"
    ):
        read_labels(file, TASKS["va"])


@pytest.mark.parametrize("blank", ["", " ", "\t", "\xa0"])
@pytest.mark.parametrize("end", ENDS)
def test_a_blank_line_in_the_middle_of_labels_is_an_error(file, blank, end):
    file.write_bytes(ENDS[end].join(["valence,arousal", "0,0", blank, "0,0", "", ""]).encode())
    with pytest.raises(DataError, match=r"a\.txt line 3: 2 values expected \(valence,arousal\), found 0"):
        read_labels(file, TASKS["va"])


@pytest.mark.filterwarnings("error")
def test_a_block_of_blank_lines_alone_is_an_error_like_any_other(file, monkeypatch):
    monkeypatch.setattr(text_files, "BLOCK", 16)
    file.write_text("valence,arousal\n0,0\n" + "\n" * 100 + "0,0\n")
    with pytest.raises(DataError, match=r"a\.txt line 3: 2 values expected"):
        read_labels(file, TASKS["va"])


def test_spaces_around_the_cells_of_labels_say_nothing(file):
    file.write_text("valence , arousal\n 0.5 ,\t-0.25\n0.125,0.25  \n\xa00,0\n")
    assert read_labels(file, TASKS["va"]).tolist() == [[0.5, -0.25], [0.125, 0.25], [0, 0]]


@pytest.mark.parametrize(
    "cell",
    ["1_0", "0x1", "nan", "inf", "-inf", "1e400", '"0.5"', "'0.5'", "#", "٣", "１", "", "0.5f", "1d0", "0.5 0.5"],
)
def test_what_only_looks_like_a_number_is_named_with_its_line_and_column(file, cell):
    file.write_text(f"valence,arousal\n0,0\n0,{cell}\n")
    with pytest.raises(DataError, match="line 3: arousal should be -1 to 1, or -5 if not annotated, found "):
        read_labels(file, TASKS["va"])


@pytest.mark.parametrize("line", ["0.5", "0.5,0.5,0.5", "0.5;0.5", "0.5\t0.5", "0,5,0,5"])
def test_rows_of_other_widths_are_shown(file, line):
    file.write_text(f"valence,arousal\n{line}\n")
    with pytest.raises(DataError, match=r"line 2: 2 values expected \(valence,arousal\), found [134]: "):
        read_labels(file, TASKS["va"])


def test_a_label_file_of_millions_of_lines_takes_seconds_and_little_memory(file):
    n_rows = 1_000_000
    file.write_text("valence,arousal\n" + "0.123,-0.25\n" * n_rows)
    start = time.process_time()
    tracemalloc.start()
    try:
        found = read_labels(file, TASKS["va"])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.shape == (n_rows, 2)
    assert peak < 6 * file.stat().st_size
    assert time.process_time() - start < 20  # 0.2 s, but for the tracing


# labels of clips


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("end", ENDS)
def test_labels_of_clips_are_read_with_any_ends(file, end, mark):
    for tail in TAILS.values():
        file.write_bytes((ENDS[end].join(["Vid_name Label", "1_1 3", "1_2\t1 "]) + tail(ENDS[end])).encode(MARKS[mark]))
        assert [(one.video, one.emotion) for one in read_clip_labels(file, "train")] == [("1_1", 2), ("1_2", 0)]


def test_an_error_in_labels_of_clips_names_the_line_of_the_file(file):
    file.write_bytes(b"Vid_name Label\r1_1 3\r\r1_2 9\r")
    with pytest.raises(DataError, match=r"a\.txt line 4: a label is 1 \(Positive\)"):
        list(read_clip_labels(file, "train"))


# tables of imports


def numbers_in(table: Path) -> dict[str, list[int]]:
    return {video: list(index.frames) for video, index in read_table(table)[0].items()}


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", ", "])
def test_tables_are_read_with_any_ends_and_separators(file, delimiter, end, mark):
    rows = [("id", "Video ", "FRAME"), ("0", "a", "2"), ("1", ' "b c"', "7"), ("2", "a", "00003")]
    for tail in (*TAILS.values(), lambda end: f"{end},,{end}" if delimiter == "," else end):
        content = ENDS[end].join(delimiter.join(row) for row in rows) + tail(ENDS[end])
        file.write_bytes(content.encode(MARKS[mark]))
        assert numbers_in(file) == {"a": [2, 3], "b c": [7]}
        assert read_table(file)[1] == 3


@pytest.mark.parametrize("blank", ["", "  ", ",", "\xa0,\t"])
def test_a_blank_line_in_the_middle_of_a_table_is_an_error(file, blank):
    file.write_text(f"video,frame\na,1\n{blank}\n\na,2\n\n")
    with pytest.raises(DataError, match=r"a\.txt line 3 is blank but rows follow\. Delete it, or restore its row\."):
        read_table(file)


def test_errors_in_tables_name_line_and_column(file):
    file.write_text("video,frame\na,1\nb,x7\nb,1\na,2\n")
    found, n_rows = read_table(file)
    assert n_rows == 4 and list(found["a"].frames) == [1, 2]
    assert found["b"].trouble.endswith(
        "line 3: `frame` is 'x7', which has no frame number from 1 to 10,000,000. Correct the cell."
    )
    file.write_text("image\na/00001.jpg\n00002.jpg\n")
    with pytest.raises(DataError, match=r"line 3: `image` should be <video>/00001\.jpg, found '00002\.jpg'"):
        read_table(file)
    file.write_text("video|frame\na|1\n")
    with pytest.raises(
        DataError, match=r"columns `video` and `frame`, or .*, separated by commas; line 1 is 'video\|frame'"
    ):
        read_table(file)


@pytest.mark.parametrize(
    "place",
    [
        *("talk/00007.jpg", "./talk/00007.jpg", "talk\\00007.jpg", ".\\talk\\00007.jpg", "C:\\data\\talk\\00007.jpg"),
        *(
            "data/cropped_aligned/talk/00007.jpg",
            "/data/talk/7.png",
            "\\\\server\\share\\talk\\00007.JPG",
            "talk//7.jpeg",
        ),
    ],
)
def test_the_folder_right_before_the_image_is_the_video(file, place):
    file.write_text(f"image\n{place}\n")
    assert numbers_in(file) == {"talk": [7]}


def test_letters_with_accents_are_one_video_however_they_are_written(file):
    file.write_text("image\ncafe\u0301/1.jpg\ncaf\u00e9/2.jpg\n", encoding="utf-8")
    assert numbers_in(file) == {"caf\u00e9": [1, 2]}


def test_two_folders_of_one_name_are_no_video(file):
    file.write_text("image\ntrain/talk/1.jpg\nval\\talk\\2.jpg\n./train/talk/3.jpg\n")
    said = read_table(file)[0]["talk"].trouble
    assert said.endswith(
        "line 3: `image` is in val/talk, others of video 'talk' are in train/talk. Give each video its own name."
    )
