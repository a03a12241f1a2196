"""The demo, from nothing to scores; once more it keeps what is finished."""

import json

from abaw import pipeline


def test_demo_makes_data_store_run_and_scores_and_keeps_them(run_cli, tmp_path):
    out = tmp_path / "demo"
    result = run_cli("demo", "--out", out, "--size", "tiny", "--dataset", "lsd", "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "lsd-hog-mlp-1 on val" in result.stdout
    assert result.stdout.splitlines()[-1] == f"Next: cd {out} && abaw train --task lsd && abaw eval --split val"
    assert result.stdout.count("Next:") == 1
    folder = out / "runs" / "lsd-hog-mlp-1"
    scores = json.loads((folder / "scores-val.json").read_text())
    n_images = len([*(out / "data").glob("*val*/*/*.jpg")])  # a folder for each class
    assert scores["official"]["n_frames"] == n_images > 0

    before = (folder / "best.safetensors").stat().st_mtime_ns
    heard = []
    results = pipeline.demo(out, "tiny", kind="lsd", device="cpu", on_result=lambda *pair: heard.append(pair))
    assert results == heard
    [(run, evaluation)] = results
    assert (run.folder, evaluation.official.score) == (folder, scores["official"]["score"])
    assert (folder / "best.safetensors").stat().st_mtime_ns == before
    assert [path.name for path in (out / "runs").iterdir()] == [folder.name]


def test_unknown_demo_lists_the_known_ones(run_cli, tmp_path):
    result = run_cli("demo", "--out", tmp_path / "demo", "--dataset", "nope")
    assert result.exit_code == 2
    assert "'nope' is not one of 'aff-wild2', 'lsd', 'stills', 'vgaf'" in result.stderr
    assert list(tmp_path.iterdir()) == []
