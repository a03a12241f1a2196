"""The commands for the tensors of EmotiW's winner, as docs/recipes.md has them, on tensors made by rule."""

import json
from pathlib import Path

import numpy as np
import pytest

from abaw.pipeline import open_store
from abaw.tests.support.documents import blocks
from abaw.tests.support.emotiw_tensors import spectrograms, write_emotiw
from abaw.tests.support.paths import CHECKOUT

# 2 pictures for 75 and 1 spectrogram for 5, in one segment: the trainable network takes seconds for each spectrogram
SMALLER = {
    "timm/vit_large_patch14_clip_224.laion2b": "hog",
    "spectrogram75": "spectrogram2",
    "75": "2",
    "5": "1",
    "window=5": "window=1",
    "epochs=200": "epochs=2",
    "head.audio=spectrogram75": "head.audio=spectrogram2",
    "clip-l14-laion2b=timm/vit_large_patch14_clip_224.laion2b": "clip-l14-laion2b=hog",
    "spectrogram75=spectrogram": "spectrogram2=spectrogram",
}


def test_commands_of_the_authors_have_their_form(run_cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = write_emotiw(Path("data"), (1, 2), n_real=1)
    (block,) = (block for block in blocks(CHECKOUT / "docs/recipes.md") if block.mark == "needs: weights, tensors")
    for words in block.commands():
        words = [SMALLER.get(word, word) for word in words]
        if words[0] == "train" and "--resume" not in words:
            words += ["--epochs", "1", "--set", "head.segments=1"]
            words += [] if "window=1" in words else ["--set", "window=2"]
        done = run_cli(*words, "--device", "cpu")
        assert done.exit_code == 0, f"{words}: {done.output}"
    store = open_store("store.zarr")
    for feature, n_rows in (("clip-l14-laion2b", 2), ("spectrogram", 1), ("spectrogram2", 2)):
        assert {name: attrs["n_frames"] for name, attrs in store.videos(feature).items()} == dict.fromkeys(
            names, n_rows
        )
    np.testing.assert_array_equal(store.read("spectrogram", "Negative-clip_1").values, spectrograms(1, 4).numpy())
    with_synthetic = json.loads((tmp_path / "runs/with-synthetic/config.json").read_text())["config"]
    assert (with_synthetic["synthetic"], with_synthetic["synthetic_draw"]) == (0.3, "run")
    assert (
        with_synthetic["epochs"] == 2
        and len((tmp_path / "runs/with-synthetic/metrics.jsonl").read_text().splitlines()) == 2
    )
    runs = ("audio5-video75", "flatten", "audio75-video75", "audio5", "video75", "with-synthetic", "synthetic-alone")
    assert all((tmp_path / "runs" / run / "best.safetensors").exists() for run in runs)
