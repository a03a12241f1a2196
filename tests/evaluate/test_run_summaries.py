"""Summaries of runs: score, epoch, folds and post-processing from small files alone, and which run is submitted."""

import json
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest

from abaw.core.errors import UsageError
from abaw.evaluate.run_summaries import RunSummary, rank_for_submission, summarise_runs
from abaw.train.checkpoint import load_tensors


def write_run(
    runs: Path,
    name: str,
    score: float | None,
    task: str = "va",
    fold: str = "",
    separate: bool = False,
    **files: object,
) -> None:
    """A run whose best checkpoint has this score, and JSON files such as `scores_val`."""
    folder = runs / name
    folder.mkdir(parents=True)
    config = {"task": task, "features": ["f", "g"], "head": {"name": "tcn"}, "fold": fold, "seed": 3, "epochs": 30}
    content = {"abaw": "1", "created": "2026-01-02T03:04:05+00:00", "config": config, "features": {}}
    (folder / "config.json").write_text(json.dumps(content))
    (folder / "metrics.jsonl").touch()
    if score is not None:
        metadata = {"epoch": "7", "score": repr(score)}
        header = {"__metadata__": metadata if separate else {"abaw": json.dumps(metadata)}}
        text = json.dumps(header).encode()
        (folder / "best.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    for key, value in files.items():
        (folder / f"{key.replace('_', '-')}.json").write_text(json.dumps(value))


def write_ensemble(runs: Path, name: str, members: list[str], score: float, raw: bool = False) -> None:
    folder = runs / name
    folder.mkdir(parents=True)
    content = {"abaw": "1", "created": "2026-01-02T03:04:05+00:00", "task": "va", "members": members, "weights": [1, 1]}
    (folder / "ensemble.json").write_text(json.dumps({**content, "raw": raw}))
    (folder / "scores-val.json").write_text(json.dumps({"official": {"score": score}, "postprocessed": None}))


def test_summaries_are_those_of_the_checkpoints(whole_run):
    """As `abaw train` writes them, read once more by safetensors."""
    summaries, broken = summarise_runs(whole_run.parent)
    (run,) = (one for one in summaries if one.name == whole_run.name)
    _, metadata = load_tensors(whole_run / "best.safetensors")
    assert (run.epoch, run.score) == (int(metadata["epoch"]), float(metadata["score"]))
    assert (run.task, run.features, run.head, run.epochs, run.seed) == ("va", ("f",), "transformer", 5, 0)
    assert (run.fold, run.validated_on, run.tuned, broken) == ("", "val", "", {})


def test_the_best_of_each_task_is_first_and_broken_folders_are_named(tmp_path):
    for name, score, task in (
        ("a", 0.1, "va"),
        ("b", 0.3, "va"),
        ("c", 0.9, "au"),
        ("d", None, "au"),
        ("e", 0.2, "va"),
    ):
        write_run(tmp_path, name, score, task, separate=name == "b")
    for name, text in (("x", "{"), ("y", "{}"), ("z", "[]")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    write_run(tmp_path, "w", 0.5)
    (tmp_path / "w/best.safetensors").write_bytes(b"not a checkpoint")
    write_ensemble(tmp_path, "lost", ["a", "gone"], 0.9)
    summaries, broken = summarise_runs(tmp_path)
    assert [(run.name, run.score) for run in summaries] == [("c", 0.9), ("d", None), ("b", 0.3), ("e", 0.2), ("a", 0.1)]
    assert {run.epoch for run in summaries if run.score is not None} == {7}
    assert list(broken) == ["w", "x", "y", "z", "lost"]
    assert "not JSON" in broken["x"] and "no 'config'" in broken["y"] and "its run gone is missing" in broken["lost"]
    with pytest.raises(UsageError, match=r"^No runs in .*nothing\. Train one"):
        summarise_runs(tmp_path / "nothing")


def test_folds_and_ensembles_say_what_they_are_validated_on(run_cli, tmp_path):
    for number in (1, 2):
        write_run(tmp_path, f"f{number}", 0.5, fold=f"{number}/2", postprocess={"fit_on": "val", "postprocess": {}})
    write_ensemble(tmp_path, "pooled", ["f1", "f2"], 0.6)
    write_ensemble(tmp_path, "raw", ["f1", "f2"], 0.55, raw=True)
    runs = {run.name: run for run in summarise_runs(tmp_path)[0]}
    assert runs["f1"].validated_on == "fold 1/2" and runs["f1"].tuned == "val" and not runs["f1"].is_optimistic
    assert runs["f1"].score_in_words == "0.500 on fold 1/2"
    assert runs["pooled"].validated_on == "folds of 2" and runs["pooled"].features == ("f", "g")
    assert runs["pooled"].score_in_words == "0.600 on folds of 2, optimistic: post-processing fitted on val"
    assert runs["raw"].score_in_words == "0.550 on folds of 2"
    optimistic, others = (run_cli("list", "runs", *names, "--runs", str(tmp_path)).stdout for names in ((), ("f*",)))
    assert "0.600*" in optimistic and "\n* optimistic: " in optimistic
    assert "0.500" in others and "*" not in others


def test_a_tuned_score_is_that_of_this_checkpoint_and_this_tuning(tmp_path):
    def scores(before: float, postprocess: object) -> dict[str, object]:
        after = {"official": {"score": 0.6}, "postprocess": postprocess}
        return {"official": {"score": before}, "postprocessed": after}

    tuning = {"fit_on": "train", "postprocess": {"thresholds": 1}}
    for name, written in (
        ("current", scores(0.5001, {"thresholds": 1})),
        ("retrained", scores(0.48, {"thresholds": 1})),
        ("tuned-again", scores(0.5, {"thresholds": 2})),
    ):
        write_run(tmp_path, name, 0.5, scores_val=written, postprocess=tuning)
    write_run(tmp_path, "not-evaluated", 0.5, postprocess=tuning)
    runs, _ = summarise_runs(tmp_path)
    assert {run.name: run.tuned_score for run in runs} == {
        **{"current": 0.6, "retrained": None, "tuned-again": None, "not-evaluated": None}
    }
    assert {run.tuned for run in runs} == {"train"}


def test_runs_with_official_validation_are_submitted_first(tmp_path):
    def summary(name: str, score: float | None, fold: str = "", members: tuple[str, ...] = ()) -> RunSummary:
        return RunSummary(name, "va", ("f",), "tcn", score, 1, 1, fold, 0, "", None, "", members)

    runs = [
        summary("none", None),
        summary("fold", 0.9, "1/2"),
        summary("pooled", 0.8, "folds of 2", ("x", "y")),
        summary("low", 0.1),
        summary("high", 0.2),
    ]
    assert [run.name for run in rank_for_submission(runs, "va")] == ["high", "low", "pooled", "fold", "none"]
    assert rank_for_submission(runs, "au") == []


LISTED = "import sys\nfrom abaw.cli import main\ntry: main(['list', 'runs', '--runs', {runs!r}])\n"
LISTED += "except SystemExit as end: sys.exit(f'loaded {{heavy}}' if (heavy := {{'torch', 'zarr'}} & {{*sys.modules}}) else end.code)"


def test_two_hundred_runs_are_listed_at_once(tmp_path, process_env):
    """In a second on a free machine; the limit here is for one that is not."""
    for number in range(200):
        write_run(tmp_path, f"va-{number}", number / 200, separate=bool(number % 2))
    code = LISTED.format(runs=str(tmp_path))
    before = time.process_time()
    summaries, _ = summarise_runs(tmp_path)
    assert time.process_time() - before < 1 and len(summaries) == 200
    result = subprocess.run([sys.executable, "-c", code], env=process_env, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[2].split()[0] == "va-199"
