"""Transcripts: every known form gives the same chunks, and hostile files are refused in a sentence."""

import json
import math
from pathlib import Path

import pytest

from abaw.core.errors import DataError
from abaw.media import yaml_text
from abaw.media.transcript_files import Chunk, Transcript, read_transcript, transcript_from_rows

CHUNKS = (Chunk("I do, & how.", 0.5, 1.0), Chunk("well", 62.0, 63.25))
WORDS = (Chunk("I", 0.5, 0.6), Chunk("do,", 0.6, 0.7), Chunk("& how.", 0.7, 1.0), Chunk("well", 62.0, 63.25))
OF_FIRST = [{"word": " I", "start": 0.5, "end": 0.6}, {"word": " do,", "start": 0.6, "end": 0.7}, {"word": " & how.", "start": 0.7, "end": 1.0}]  # fmt: skip
OF_SECOND = [{"word": " well", "start": 62.0, "end": 63.25}, {"word": " 1."}]  # the last was not aligned
SEGMENTS = [{"id": 0, "start": 0.5, "end": 1.0, "text": " I do, & how."}, {"id": 1, "start": 62.0, "end": 63.25, "text": " well"}]  # fmt: skip
WITH_WORDS = [{**SEGMENTS[0], "words": OF_FIRST}, {**SEGMENTS[1], "words": OF_SECOND}]
PIPELINE = [{"text": " I do, & how.", "timestamp": [0.5, 1.0]}, {"text": " well", "timestamp": [62.0, 63.25]}]
CPP = [
    {"timestamps": {"from": "00:00:00,500", "to": "00:00:01,000"}, "offsets": {"from": 500, "to": 1000}, "text": " I do, & how."},
    {"timestamps": {"from": "00:01:02,000", "to": "00:01:03,250"}, "offsets": {"from": 62000, "to": 63250}, "text": " well"},
]  # fmt: skip
BAH = """chunks:
- language: english
  text: ' I do,
    & how.'
  timestamp: !!python/tuple
  - 0.5
  - 1.0
- language: english
  text: ' well'
  timestamp: !!python/tuple
  - 62.0
  - 63.25
text: ' I do, & how. well'
"""
SRT = "1\r\n00:00:00,500 --> 00:00:01,000\r\n<i>I do,</i>\r\n{\\an8}&amp; how.\r\n\r\n2\r\n00:01:02,000 --> 00:01:03,250\r\nwell\r\n"
VTT = """WEBVTT Kind: captions

NOTE 00:00:00.000 is not --> a time

STYLE
::cue { color: red }

intro
00:00.500 --> 00:01.000 align:start position:0%
<v Ann>I do, <00:00:00.700>&amp; <c.loud>how.</c>

00:01:02.000 --> 00:01:03.250
well
"""


@pytest.mark.parametrize(
    ("name", "content", "has_words"),
    [
        ("openai.json", {"text": " I do", "segments": SEGMENTS, "language": "en"}, False),
        ("words.json", {"segments": WITH_WORDS}, True),
        ("whisperx.json", {"segments": SEGMENTS, "word_segments": OF_FIRST + OF_SECOND}, True),
        ("api.json", {"text": "", "segments": SEGMENTS, "words": OF_FIRST + OF_SECOND}, True),
        ("faster.json", WITH_WORDS, True),
        ("pipeline.json", {"text": "", "chunks": PIPELINE}, False),
        ("cpp.json", {"systeminfo": "", "result": {"language": "en"}, "transcription": CPP}, False),
        ("bah.yml", BAH, False),
        ("a.srt", SRT, False),
        ("a.vtt", VTT, False),
    ],
    ids=lambda value: value if isinstance(value, str) and "." in value and "\n" not in value else "",
)
def test_forms(name: str, content: object, has_words: bool, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode())
    transcript = read_transcript(path)
    assert transcript == Transcript(CHUNKS, WORDS if has_words else ())
    assert transcript.text == "I do, & how. well" and transcript.is_timed


def test_missing_and_reversed_times(tmp_path: Path) -> None:
    """A missing end is the next beginning, a missing beginning the last end; what ends too early is left out and noted."""
    spans = [["c", 3.0, None], ["a", 0.0, None], ["b", 0.0, 1.5], ["", 1, 2], ["later", None, 4.0], ["back", 3.0, 2.0]]
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"chunks": [{"text": text, "timestamp": span} for text, *span in spans]}))
    transcript = read_transcript(path)
    assert [(one.text, one.start_s, one.end_s) for one in transcript.chunks] == [
        *(("a", 0.0, 2.0), ("b", 0.0, 1.5), ("later", 2.0, 4.0), ("c", 3.0, math.inf))
    ]
    assert transcript.notes == ("a.json: 1 of its chunks end before they begin, and are left out",)
    path.write_text('{"text": " all \\n of it \\ud800"}')
    untimed = read_transcript(path)
    assert untimed.chunks == (Chunk("all of it ?", 0.0, math.inf),) and not untimed.is_timed
    assert transcript_from_rows(path, [("x", "1.5", ""), ("y", "2", "3")]).chunks == (
        Chunk("x", 1.5, 2.0),
        Chunk("y", 2.0, 3.0),
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.json", "{", "cannot be read as JSON"),
        ("a.json", "[" * 100_000, "nested too deeply"),
        (
            "a.json",
            '{"utterances": []}',
            "expected segments .Whisper., chunks .* or transcription .*; it has utterances",
        ),
        ("a.json", '[{"start": -1, "end": 2, "text": "x"}]', "part 1 has the time '-1', not a number of seconds"),
        ("a.json", '[{"start": 1e9, "end": 2, "text": "x"}]', "not a number of seconds"),
        ("a.json", '{"segments": ["x"]}', "part 1 is 'x', not a text with times"),
        ("a.json", json.dumps([{"start": 0, "end": 1, "text": "x"}] * 50_001), "more than 50,000 chunks"),
        ("a.srt", "1\n00:00:00 --> 00:00:01\nx\n", "'00:00:00 --> 00:00:01' is no time such as 00:01:02,500"),
        ("a.srt", "<html>404</html>\n", "has text and no time such as 00:01:02,500 --> 00:01:04,000. Transcribe"),
        ("a.vtt", "1\n00:00:00.000 -> 00:00:01.000\nx\n", "has text and no time such as 00:01:02,500"),
        (
            "a.yml",
            "chunks: [{text: x, timestamp: [1]}]",
            r"part 1 has the timestamp \"\['1'\]\", not a start and an end",
        ),
        ("a.json", '{"chunks": [{"text": "x", "timestamp": 1.5}]}', "the timestamp '1.5', not a start and an end"),
        ("a.yml", "chunks: [\n", r"cannot be read as YAML \(line 2: .*expected"),
        ("a.yml", "chunks: " + "[" * 30, "more than 20 levels deep"),
        ("a.yml", "chunks: " + "[" * 200_000, "nest"),
        ("a.yml", "chunks: *nothing", "cannot be read as YAML"),
    ],
)
def test_hostile_files(name: str, content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=words) as raised:
        read_transcript(path)
    assert str(path) in str(raised.value)


def test_files_of_other_programs_that_are_a_little_off(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text("1\n00:00:00,000 --> 00:00:01,000\nhow old?\n27\n2\n00:00:01,000 --> 00:00:02,000\n27\n")
    assert [chunk.text for chunk in read_transcript(path).chunks] == ["how old? 27", "27"]  # no blank line between
    for name, content in (("silent.srt", ""), ("silent.vtt", "WEBVTT\n\nNOTE nobody speaks\n")):
        (tmp_path / name).write_text(content)
        assert read_transcript(tmp_path / name).chunks == ()
    path = tmp_path / "marked.json"
    path.write_text('\ufeff{"chunks": [{"text": "x", "timestamp": null}]}')
    assert read_transcript(path).chunks == (Chunk("x", 0.0, math.inf),)
    path = tmp_path / "a.yml"
    path.write_text("chunks: [{text: x, timestamp: null}, {text: y, timestamp: [1, null]}]")
    assert read_transcript(path).chunks == (Chunk("x", 0.0, 1.0), Chunk("y", 1.0, math.inf))


def test_yaml_makes_no_objects_and_no_bomb_grows(tmp_path: Path) -> None:
    path = tmp_path / "a.yml"
    path.write_text("a: !!python/object/apply:os.mkdir ['" + str(tmp_path / "made") + "']\nb: !!python/tuple [1, ~]\n")
    assert yaml_text.read_yaml(path) == {"a": [str(tmp_path / "made")], "b": ["1", "~"]}
    assert not (tmp_path / "made").exists()
    levels = [
        f"l{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 9)}], k: [{', '.join([f'*l{n - 1}'] * 9)}]}}"
        for n in range(1, 60)
    ]
    with pytest.raises(DataError, match="has more than 50 bytes"):
        yaml_text.read_yaml(path, max_bytes=50)
    path.write_text("l0: &l0 {text: lol}\n" + "\n".join(levels) + "\nchunks: *l59\nself: &self [*self]\n")
    tree = yaml_text.read_yaml(path)  # 9 ** 59 lols if any were copied
    assert (
        tree["l1"]["<<"] == [{"text": "lol"}] * 9
        and tree["l59"]["k"][8] is tree["l58"]
        and tree["self"][0] is tree["self"]
    )
    with pytest.raises(DataError, match="expected segments"):
        read_transcript(path)


def test_messages_do_not_write_out_what_anchors_repeat(tmp_path: Path) -> None:
    """10 to the power of 9 texts if they were."""
    lists = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10))
    for chunks, words in (("*a9", "not a text with times"), ("[{text: x, timestamp: [*a9, 1]}]", "has the time")):
        path = tmp_path / "a.yml"
        path.write_text(f"a0: &a0 x\n{lists}chunks: {chunks}\n")
        with pytest.raises(DataError, match=words):
            read_transcript(path)


def test_values_under_some_keys_are_read_over(tmp_path: Path) -> None:
    path = tmp_path / "all.yaml"
    path.write_text(
        "v:\n  frames:\n  - - a\n    - {b: [0]}\n  kept: {frames: 3, x: [1, [2]]}\n  frames2: []\nw: {frames: [[1]]}\n"
    )
    tree = yaml_text.read_yaml(path, skip=frozenset({"frames"}))
    assert tree == {
        "v": {"frames": None, "kept": {"frames": "3", "x": ["1", ["2"]]}, "frames2": []},
        "w": {"frames": None},
    }
