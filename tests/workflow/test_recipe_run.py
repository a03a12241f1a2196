"""`abaw run`: a recipe from data to scores; stopped and run again, it does what is missing and nothing else."""

import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from abaw import pipeline
from abaw.core.errors import UsageError

RECIPE = """
summary = "tiny"
extract = ["abaw extract --backbone hog"]
task = "va"
features = ["hog"]
[head]
name = "ridge"
"""


@pytest.fixture
def options(tiny_demo: Path, tmp_path: Path) -> pipeline.RecipeOptions:
    """Two seeds and two folds of a recipe in a file, nothing done yet."""
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(RECIPE)
    return pipeline.RecipeOptions(str(recipe), tiny_demo, tmp_path / "s.zarr", tmp_path / "runs", 2, 2, "cpu")


def states(options: pipeline.RecipeOptions) -> list[tuple[str, bool]]:
    return [(step.name, step.is_done) for step in pipeline.plan_recipe(options).steps]


def test_a_recipe_is_done_once_whole_and_continues_after_it_was_stopped(
    options: pipeline.RecipeOptions, run_cli: Callable[..., Result], tmp_path: Path
):
    names = ["extract", *["train"] * 4, *["tune"] * 2, *["eval"] * 4, "ensemble", "report"]
    assert states(options) == [(name, False) for name in names]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]  # a plan writes nothing

    def stop(step: pipeline.Step) -> None:
        if step.name == "tune":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.run_recipe(options, on_step=stop)
    assert states(options) == [(name, name in ("extract", "train")) for name in names]
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "runs").glob("*/best.safetensors")}
    assert len(kept) == 4

    places = ("--data", options.data, "--store", options.store, "--runs", options.runs, "--device", "cpu")
    command = ("run", options.recipe, "--seeds", 2, "--folds", 2, *places)
    result = run_cli(*command)
    assert result.exit_code == 0, result.output
    begun = re.findall(r"^([a-z]+): ", result.stdout, re.MULTILINE)
    assert begun == [name for name in names if name not in ("extract", "train")]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert all(is_done for _, is_done in states(options))

    def scores(name: str) -> dict:
        return json.loads((options.runs / name / "scores-val.json").read_text())

    seeds, folds = (
        [scores(name) for name in names] for names in (("tiny-1", "tiny-2"), ("tiny-fold1of2-1", "tiny-fold2of2-1"))
    )
    assert {one["postprocessed"]["origin"] for one in seeds} == {"fitted on folds"}
    cells = [re.split(r"\s*[│|]\s*", line.strip("│| \n")) for line in result.stdout.splitlines()]
    found = {row[0]: row[1:3] for row in cells if len(row) == 5}
    official = [[one["official"]["score"] for one in group] for group in (seeds, folds)]
    tuned = [one["postprocessed"]["official"]["score"] for one in seeds]
    assert found["2 seeds"] == [
        f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" for values in (official[0], tuned)
    ]
    assert found["2 folds"] == [f"{np.mean(official[1]):.3f} ± {np.std(official[1], ddof=1):.3f}", "-"]
    assert found["ensemble of the seeds"] == ["-", f"{scores('tiny-ensemble-1+2')['official']['score']:.3f}"]
    assert (options.runs / "tiny.html").stat().st_size > 10_000

    again = run_cli(*command)
    assert again.exit_code == 0 and not re.findall(r"^[a-z]+: ", again.stdout, re.MULTILINE)
    changed = replace(options, settings=("head.alpha=3",), n_seeds=1, n_folds=0)
    assert [is_done for _, is_done in states(changed)] == [True, False, False, False, False]
    for name, wanted in (("tiny-ensemble-1+2", ["ensemble"]), ("tiny-2", ["eval", "ensemble", "report"])):
        file = options.runs / name / "scores-val.json"
        content, times = file.read_bytes(), file.stat()
        file.write_bytes(b"")  # as a power cut may leave it
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        undone = [name for name, is_done in states(options) if not is_done]
        file.write_bytes(content)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert undone == wanted
    (options.runs / "tiny-2" / "postprocess.json").unlink()
    undone = [name for name, is_done in states(options) if not is_done]
    assert undone == ["tune"]

    smoothed = "[postprocess.smoothing]\nvalence = 'box:21'\n"  # a recipe gives it: no training, no fit
    Path(options.recipe).write_text(RECIPE + smoothed)
    one = replace(options, n_seeds=1, n_folds=0)
    assert [name for name, is_done in states(one) if not is_done] == ["tune"]
    pipeline.run_recipe(one)
    assert all(is_done for _, is_done in states(one))
    post = scores("tiny-1")["postprocessed"]
    assert post["origin"] == "as given"
    assert post["postprocess"]["smoothing"] == {"valence": {"kind": "box", "width": 21}}
    Path(options.recipe).write_text(RECIPE + smoothed.replace("valence", "valance"))
    with pytest.raises(UsageError, match=r"postprocess.smoothing: task va has no 'valance' there"):
        pipeline.plan_recipe(one)


def test_missing_weights_and_odd_commands_are_found_before_anything_runs(
    options: pipeline.RecipeOptions, run_cli: Callable[..., Result], tmp_path: Path
):
    places = ("--data", options.data, "--store", options.store, "--runs", options.runs)
    result = run_cli("run", "emma", *places, "--dry-run")
    assert result.exit_code == 0 and "mae-cls needs weights (MAE.pth is missing)" in result.stderr
    assert result.stdout.splitlines()[-1].startswith("Next: abaw run emma --data ")
    result = run_cli("run", "random-masking-va", *places, "--device", "cpu")
    assert (
        result.exit_code == 2
        and "Nothing was started: vit-mean needs weights (can get it: abaw weights get vit)" in result.stderr
    )
    (tmp_path / "mine.pth").touch()
    plan = pipeline.plan_recipe(replace(options, recipe="emma", backbones=(f"mae-cls:{tmp_path}/mine.pth",)))
    assert [step.needs.partition(" ")[0] for step in plan.steps if step.needs] == ["dan"]
    with pytest.raises(UsageError, match="has no feature hog"):
        pipeline.plan_recipe(replace(options, recipe="emma", backbones=("hog",)))
    for odd in ("--untrained", "--views many"):
        Path(options.recipe).write_text(RECIPE.replace("--backbone hog", f"--backbone hog {odd}"))
        with pytest.raises(UsageError, match="which `abaw run` cannot do"):
            pipeline.plan_recipe(options)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "s.zarr").exists()


def test_nothing_is_trained_without_a_video_that_cannot_be_extracted(
    options: pipeline.RecipeOptions, run_cli: Callable[..., Result], tmp_path: Path
):
    data = tmp_path / "data"
    shutil.copytree(options.data, data)
    folder = sorted((data / "cropped_aligned").iterdir())[0]
    shutil.copy(
        next(folder.glob("*.jpg")), folder / "00000.jpg"
    )  # a frame number that says nothing certain of the others
    places = ("--data", data, "--store", options.store, "--runs", options.runs, "--device", "cpu")
    result = run_cli("run", options.recipe, *places)
    assert result.exit_code == 1
    ending = result.stderr.partition("Nothing was trained, because 1 videos or files of labels were left out")[2]
    assert (
        f"{folder.name}: " in ending and "has the frame number 0" in ending and "run the same command again" in ending
    )
    (folder / "00000.jpg").unlink()
    result = run_cli("run", options.recipe, *places)
    assert result.exit_code == 0, result.output
