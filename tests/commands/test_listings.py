"""`abaw list`: one line each, filters, one thing in full, JSON and CSV."""

import csv
import io
import json
import shutil

import pytest

from abaw import pipeline
from abaw.core.tasks import TASKS

KINDS = ("backbones", "heads", "losses", "tasks", "recipes", "published")


@pytest.mark.parametrize("kind", KINDS)
def test_json_has_what_the_list_shows(run_cli, kind):
    (content,) = json.loads(run_cli("list", kind, "--json").stdout, parse_constant=pytest.fail).values()
    shown = run_cli("list", kind).stdout.splitlines()[2:]
    names = [entry["name"] for entry in content]
    assert len(names) > 5
    for line, name in zip(shown, names, strict=False):
        assert line.startswith(name)


def test_backbones_have_a_line_each_within_100_columns(run_cli, monkeypatch):
    families = pipeline.list_backbones()
    specs = [spec for family in families for spec in (*family.specs, *family.variants)]
    monkeypatch.setenv("COLUMNS", "80")
    lines = {line.split()[0]: line for line in run_cli("list", "backbones").stdout.splitlines()[2 : 2 + len(specs)]}
    assert lines.keys() == {spec.name for spec in specs}
    assert max(map(len, lines.values())) <= 80
    assert lines["vit-mean"].split() == ["vit-mean", "768", "85.8", "M", "get", "Apache-2.0"]
    assert lines["hog"].split() == ["hog", "1764", "-", "needs", "none", "-"]
    assert lines["emotieffnet-b0"].split()[1:] == ["1280", "4.0", "M", "by", "hand", "Apache-2.0"]
    assert lines["fer-logits"].split()[1:] == ["7", "0.1", "M", "have", "MIT"]


def test_names_patterns_and_parts_of_names(run_cli):
    def names(*filters: str) -> list[str]:
        return [one["name"] for one in json.loads(run_cli("list", "backbones", "--json", *filters).stdout)["backbones"]]

    assert names("vit*") == ["vit-mean", "vit-cls", "vit-tiny-mean", "vit-tiny-cls"]
    assert names("vit-????") == ["vit-mean"]
    assert names("dinov3-s") == ["dinov3-s16-mean", "dinov3-s16-cls"]
    assert names("hog", "swin-t") == ["hog", "swin-t"]
    assert names("emma") == ["emma"], "the name of one, although others have it in theirs"


def test_one_thing_is_shown_in_full(run_cli):
    def details(*words: str) -> dict[str, str]:
        lines = [line.partition(":") for line in run_cli("list", *words).stdout.splitlines()]
        return {key: value.strip() for key, _, value in lines}

    vit = details("backbones", "vit-mean")
    assert (vit["input"], vit["mean"], vit["parameters"]) == (
        "224 x 224, bicubic, whole crop",
        "0.5, 0.5, 0.5",
        "85,798,656",
    )
    assert vit["published"].endswith("https://huggingface.co/timm/vit_base_patch16_224.augreg2_in21k_ft_in1k")
    assert details("backbones", "mae-mean")["published"].split(", ")[0] == "mae_pretrain_vit_base.pth"
    assert details("backbones", "wav2vec2")["input"] == "sound, 16 kHz, mono"
    assert details("tasks", "va")["submission header"] == "image_location,valence,arousal"
    assert details("losses", "cotex")["min views"] == "2"
    assert details("recipes", "situ-va")["task"] == "va"
    assert "clip_norm = inf" in run_cli("list", "recipes", "situ-va").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("backbones", "vit-maen"), "No backbone 'vit-maen'. Did you mean vit-mean?"),
        (("heads", "mpl"), "No head 'mpl'. Did you mean mlp or mil?"),
        (("losses", "zzz*"), "No loss 'zzz*'. `abaw list losses` shows them all."),
        (("published", "--task", "vaa"), "No published scores of task 'vaa' are known. Did you mean va?"),
    ],
    ids=" ".join,
)
def test_mistyped_names(run_cli, words, said):
    result = run_cli("list", *words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {said}")


def test_every_head_and_loss_says_what_it_is():
    for config in (*pipeline.list_heads().values(), *pipeline.list_losses().values()):
        assert 10 < len(config.summary) < 100 and not config.summary.endswith("."), config


def test_published_scores_of_a_task(run_cli):
    content = json.loads(run_cli("list", "published", "--task", "au", "--json").stdout)["published"]
    assert {one["task"] for one in content} == {"au"}
    (winner,) = (one for one in content if one["name"] == "USTC-IAT, 1st")
    assert winner == {
        **{"name": "USTC-IAT, 1st", "task": "au", "edition": "ABAW 10, CVPR 2026", "year": 2026, "split": "T"},
        **{"score": 0.51, "high": None, "protocol": "", "source": "arXiv 2605.27451"},
    }
    assert "fell by .04 to .20" in run_cli("list", "published").stdout


def test_names_of_runs_are_no_formulas_in_a_table(run_cli, whole_run, tmp_path):
    shutil.copytree(whole_run, tmp_path / "@run")
    (row,) = csv.DictReader(io.StringIO(run_cli("list", "runs", "--runs", tmp_path, "--csv").stdout))
    assert row["name"] == "'@run"


def test_runs_are_listed_and_filtered(run_cli, whole_run):
    runs = whole_run.parent
    (row,) = csv.DictReader(io.StringIO(run_cli("list", "runs", "--runs", runs, "--csv").stdout))
    best = max(json.loads(line)["score"] for line in (whole_run / "metrics.jsonl").read_text().splitlines())
    assert (row["name"], row["features"], float(row["score"])) == (whole_run.name, "f", pytest.approx(best))
    lines = run_cli("list", "runs", "--runs", runs).stdout.splitlines()
    assert lines[2].split()[:6] == [whole_run.name, "va", "f", "transformer", f"{best:.3f}", "val"]
    for options, n in ((("--task", "va"), 1), (("--task", "au"), 0), (("--head", "tcn"), 0), (("--feature", "f"), 1)):
        content = json.loads(run_cli("list", "runs", "--runs", runs, "--json", *options).stdout)
        assert len(content["runs"]) == n and content["broken"] == {}
    assert f"score:        {best:.4g}\n" in run_cli("list", "runs", "--runs", runs, whole_run.name).stdout
    assert set(TASKS) >= {row["task"]}


def test_broken_runs_are_named_at_the_end(run_cli, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/config.json").write_text("{")
    result = run_cli("list", "runs", "--runs", tmp_path)
    assert result.exit_code == 0
    assert result.stderr.splitlines()[-1] == "  x: its config.json, or a file next to it, is damaged (not JSON)"
