"""Transcripts through the whole extraction: the right rows of the right videos, from folders, tables and BAH's file."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from abaw.core.errors import DataError
from abaw.datasets.demo import demo_vgaf
from abaw.datasets.demo.demo_clips import write_ah_demo
from abaw.datasets.doctor import report_transcripts
from abaw.datasets.layouts import open_dataset
from abaw.datasets.transcripts import find_transcripts
from abaw.pipeline import ExtractOptions, extract
from abaw.store import FeatureStore
from abaw.tests.support.command_line import assert_refused
from abaw.tests.support.images import write_data
from abaw.tests.support.text_models import save_roberta
from abaw.tests.support.videos import NumberedVideos

Cli = Callable[..., Result]
FPS = 5.0  # 4 frames of .2 s in each video
SRT = "1\n00:00:00,100 --> 00:00:00,400\nyes\n\n2\n00:00:00,600 --> 00:00:05,000\nI do not know\n"
SPOKEN = [True, True, False, True]  # .1 to .4 and from .6 on, in rows of .2 s


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_roberta(tmp_path_factory.mktemp("text") / "roberta")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Crops of a video, of two people in another, and of one that nobody transcribed."""
    root = write_data(
        tmp_path / "data", {name: [1, 2, 4] for name in ("a", "talk_left", "talk_right", "silent")}, size=16
    )
    folder = root / "Transcripts" / "inner"
    folder.mkdir(parents=True)
    (folder / "talk.mp4.srt").write_text(SRT)
    (folder / "a.json").write_text(json.dumps([{"start": 0.2, "end": 0.4, "text": "well"}]))
    (folder / "a.srt").write_text(SRT)  # that of the same name with words is read
    (folder / "other.vtt").write_text("WEBVTT\n")
    return root


def options(data: Path, *backbones: str, **more: object) -> ExtractOptions:
    values = {"device": "cpu", "fps": FPS} | more
    return ExtractOptions(data, data.parent / "store.zarr", backbones, **values)


def test_rows_resume_and_record(data: Path, roberta: Path) -> None:
    wanted = options(
        data, f"text:{roberta}", f"whole=text-cls-full:{roberta}", "speech-timing", "hog", views=("hflip",)
    )
    summary = extract(wanted)
    assert summary.ok and sorted(summary.done) == ["a", "silent", "talk_left", "talk_right"]
    assert summary.without_text == ["silent"]
    store = FeatureStore.open(wanted.store)
    assert set(store.features()) == {"text", "whole", "speech-timing", "hog", "hog@hflip"}
    present = {name: store.read("text", name).present.tolist() for name in store.videos("text")}
    assert present == {
        **{"a": [False, True, False, False], "silent": [False] * 4},
        **dict.fromkeys(("talk_left", "talk_right"), SPOKEN),
    }
    for feature in ("whole", "speech-timing"):
        assert store.read(feature, "talk_left").present.all() and not store.read(feature, "silent").present.any()
    values = store.read("text", "talk_left").values
    assert (values[0] == values[1]).all() and not (values[0] == values[3]).all()
    attrs = store.video_attrs("text", "talk_right")
    content = hashlib.sha256(SRT.encode()).hexdigest()
    assert attrs["transcript"] == "talk.mp4.srt" and attrs["content"].endswith(content)
    assert len(store.feature_attrs("text")["weights_sha256"]) == 64
    assert store.feature_attrs("whole")["record"]["options"] == {"model": "roberta", "rows": "full"}

    again = extract(wanted)
    assert not again.done and len(again.skipped) == 4
    srt = data / "Transcripts" / "inner" / "talk.mp4.srt"
    srt.write_text(SRT.replace("yes", "yep"))  # of the same size
    (srt.parent / "silent.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:00.200\nand now\n")
    changed = extract(options(data, f"text:{roberta}", part="1/2"))
    changed.add(extract(options(data, f"text:{roberta}", part="2/2")))
    assert sorted(changed.done) == ["silent", "talk_left", "talk_right"] and changed.skipped == ["a"]
    assert store.read("text", "silent").present.tolist() == [True, False, False, False]


def test_broken_and_doubled_transcripts_fail_their_videos_alone(data: Path, run_cli: Cli) -> None:
    shutil.copy(data / "Transcripts" / "inner" / "talk.mp4.srt", data / "Transcripts" / "talk.srt")
    (data / "Transcripts" / "inner" / "a.json").write_text('{"text": 3}')
    summary = extract(options(data, "speech-timing"))
    assert sorted(summary.failed) == ["a", "talk_left", "talk_right"] and summary.done == ["silent"]
    assert "are both transcripts of talk. Delete one of them." in summary.failed["talk_left"]
    assert "a.json is no transcript: expected segments" in summary.failed["a"]
    said = run_cli("doctor", "--data", data, "--json")
    reports = [report for report in json.loads(said.stdout)["per_video"] if report["video"] == "Transcripts"]
    assert reports[0]["warnings"] == [
        f"Transcripts: 3 of 4 videos have one in {data / 'Transcripts'}.",
        "1 transcripts are of no video here: other",
    ]
    assert len(reports[1]["errors"]) == 3


def test_names_of_transcripts_may_end_in_a_language(data: Path) -> None:
    folder = data / "Transcripts" / "inner"
    (folder / "talk.mp4.srt").rename(folder / "talk.mp4.pt-BR.srt")
    (folder / "silent.de.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:00.200\nja\n")
    (folder / "a.en.srt").write_text(SRT)  # a.json has the name of the video alone
    dataset = open_dataset(data, FPS)
    videos = {video.name: video for video in dataset.videos}
    transcripts = find_transcripts(data)
    names = {name: transcripts.of(video, dataset.people).file.name for name, video in videos.items()}
    assert names == {
        **dict.fromkeys(("talk_left", "talk_right"), "talk.mp4.pt-BR.srt"),
        **{"a": "a.json", "silent": "silent.de.vtt"},
    }
    (folder / "silent.en.srt").write_text(SRT)
    transcripts = find_transcripts(data)
    wrong = (
        rf"{data / 'Transcripts'} has transcripts of silent in several languages: silent\.de\.vtt, silent\.en\.srt\. "
        r"Keep one of them there, or rename one to silent\.vtt\."
    )
    with pytest.raises(DataError, match=wrong):
        transcripts.of(videos["silent"], dataset.people)
    (report,) = [one for one in report_transcripts(dataset) if one.errors]
    assert len(report.errors) == 1
    (folder / "silent.srt").write_text(SRT)
    assert find_transcripts(data).of(videos["silent"], dataset.people).file.name == "silent.srt"


def test_command_line(data: Path, run_cli: Cli) -> None:
    common = ("--data", data, "--store", data.parent / "s.zarr", "--device", "cpu", "--fps", FPS)
    assert_refused(
        run_cli("extract", *common, "--backbone", "hog", "--transcripts", "x"),
        2,
        "--transcripts is for backbones of text",
    )
    assert_refused(
        run_cli("extract", *common, "--backbone", "speech-timing", "--transcripts", "x"),
        1,
        "There is no folder or table of transcripts x",
    )
    dry = run_cli("extract", *common, "--backbone", "speech-timing", "--dry-run")
    assert "4 videos, 12 frames" in dry.output
    (data / "people.csv").write_text("video,person\na,anna\nb,ben\n")
    moved = data.parent / "elsewhere"
    shutil.move(data / "Transcripts", moved)
    none = run_cli("extract", *common, "--backbone", "speech-timing")
    assert none.exit_code == 0 and f"No transcripts: {data} has no folder transcription/" in none.output
    assert none.output.count("people.csv: 1 name is of no video: b.") == 1
    assert "4 videos without text" in none.output
    found = run_cli("extract", *common, "--backbone", "speech-timing", "--transcripts", moved)
    assert f"Transcripts: 3 of 4 videos have one in {moved}." in found.output and "done 3, skipped 1" in found.output
    dry = run_cli("extract", *common, "--backbone", "speech-timing", "--transcripts", moved, "--dry-run")
    assert "0 videos, 0 frames" in dry.output


def test_tables(data: Path) -> None:
    table = data.parent / "texts.csv"
    table.write_text(
        'Name,label,English,start,end\ntalk.mp4,1,"well, yes",0.2,0.6\ntalk.mp4,1,no,,\na,0,all of it,,\n',
        encoding="utf-8-sig",
    )
    found = find_transcripts(data, f"{table}#english").of_video
    spans = {
        name: [(one.text, one.start_s, one.end_s) for one in source.read().chunks] for name, source in found.items()
    }
    assert spans == {"talk": [("well, yes", 0.2, 0.6), ("no", 0.6, np.inf)], "a": [("all of it", 0.0, np.inf)]}
    with pytest.raises(DataError, match=r"has no column Englsh; .* Did you mean English"):
        find_transcripts(data, f"{table}#Englsh")
    with pytest.raises(DataError, match=r"has no column text or transcript or .*--transcripts texts.csv#COLUMN"):
        find_transcripts(data, str(table))
    extract(options(data, "speech-timing", transcripts=f"{table}#English"))
    table.write_text(table.read_text().replace("all of it", "other"))
    changed = extract(options(data, "speech-timing", transcripts=f"{table}#English"))
    assert changed.done == ["a"] and len(changed.skipped) == 3


def test_bah_and_its_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(demo_vgaf.SIZES, "tiny", demo_vgaf.GroupSize(2, 1, 0.4))
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    root = tmp_path / "data"
    write_ah_demo(root, on_frames=lambda n: None)
    dataset = open_dataset(root)
    in_folder = find_transcripts(root)
    assert (
        in_folder.of_video.keys() == {video.name for video in dataset.videos}
        and in_folder.place == root / "transcription"
    )
    texts = {name: source.read() for name, source in in_folder.of_video.items()}
    assert all(len(one.chunks) == 2 and one.is_timed and one.chunks[1].end_s < 0.4 for one in texts.values())
    assert extract(ExtractOptions(root, tmp_path / "store.zarr", ("speech-timing",), device="cpu")).n_frames == 3 * 75
    # without the folder, BAH's file of all videos is read, which has all labels of frames, too
    lines = []
    for file in sorted((root / "transcription").rglob("*.yml")):
        name = file.parent.relative_to(root / "transcription")
        lines += [f"{name}:", "  frame_annotation:", f"  - - {name}/frame-0.jpg", "    - 0", "  transcript:"]
        lines += [f"    {line}" for line in file.read_text().splitlines()]
    (root / "video_annotation_transcript.yaml").write_text("\n".join(lines))
    shutil.rmtree(root / "transcription")
    in_file = find_transcripts(root)
    assert {name: source.read() for name, source in in_file.of_video.items()} == texts
    assert extract(ExtractOptions(root, tmp_path / "store.zarr", ("speech-timing",), device="cpu")).ok


def test_times_of_a_film_and_its_people(numbered: NumberedVideos, roberta: Path, tmp_path: Path) -> None:
    """Rows are shown as long as the film says; a transcript of a video is that of the people who are found in it."""
    root = tmp_path / "films"
    numbered.write(root / "talk.mp4", times_ms=[0, 100, 400, 450, 500, 700])
    (root / "subtitles").mkdir()
    (root / "subtitles" / "talk.srt").write_text(SRT)
    wanted = ExtractOptions(root, tmp_path / "s.zarr", ("hog", f"text:{roberta}"), device="cpu", faces="whole")
    assert extract(wanted).ok
    store = FeatureStore.open(wanted.store)
    assert store.read("text", "talk").present.tolist() == [False, True, False, False, True, True]
    assert store.video_attrs("text", "talk")["video"] == "talk"
    assert not extract(wanted).done
    alone = ExtractOptions(root, tmp_path / "t.zarr", ("speech-timing",), device="cpu", faces="whole")
    assert "sound and text are stored for each of them" in extract(alone).failed["talk"]
