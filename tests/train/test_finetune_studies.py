"""Each study of fine-tuning runs through the real stages, at its smallest."""

from pathlib import Path

import pytest

from abaw.tests.support.paths import CHECKOUT

STUDIES = ("frozen", "layer_decay", "hidden_patches", "copies", "clips", "colour_casts", "lora")


@pytest.fixture
def few_faces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two people in each split, one epoch; the small network is known to this test alone."""
    monkeypatch.syspath_prepend(str(CHECKOUT))
    from abaw.backbones import registry
    from studies import clips, hidden_patches, study, tiny_vit, workers

    registry.list_families()
    monkeypatch.setattr(registry, "_FAMILIES", dict(registry._FAMILIES))
    for module in (tiny_vit, *(module for module in workers.MODULES if module.IDEA.name.startswith("finetune-"))):
        for split in module.PEOPLE:
            monkeypatch.setitem(module.PEOPLE, split, 1)
    for budget in (tiny_vit.BUDGET, study.BUDGET, clips.WINDOWS):
        monkeypatch.setitem(budget, "epochs", 1)
    monkeypatch.setattr(hidden_patches, "EPOCHS", 1)


@pytest.mark.usefixtures("few_faces", "one_thread")
@pytest.mark.parametrize("name", STUDIES)
def test_a_study_of_fine_tuning_scores_each_variant(name: str, tmp_path: Path) -> None:
    from studies.workers import MODULES

    (module,) = (module for module in MODULES if module.__name__ == f"studies.{name}")
    for scores in module.measure(0, tmp_path).values():
        assert len(scores) > 1 and set(module.IDEA.against) < set(scores)
        assert all(0 <= score <= 1 for score in scores.values())
