"""The studies of `python -m studies` run on the stores and trainings of today, and write their sections of a document."""

from pathlib import Path

import pytest

from abaw.tests.support.paths import CHECKOUT

TODAY = "<!-- ideas: begin (python -m studies writes what follows) -->"


@pytest.fixture
def small_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few people with short videos, one epoch."""
    monkeypatch.syspath_prepend(str(CHECKOUT))
    from studies import selection, study, world

    monkeypatch.setattr(world, "N_FRAMES", 60)
    monkeypatch.setattr(selection, "PEOPLE", {"train": 2, "val": 2, "test": 2})
    monkeypatch.setattr(selection, "N_TRAINING", (2,))
    monkeypatch.setitem(study.BUDGET, "epochs", 2)


@pytest.mark.usefixtures("small_world", "one_thread")
def test_an_idea_is_measured_and_its_section_replaced(tmp_path: Path) -> None:
    from studies.report import as_record, as_sections, replace_sections
    from studies.workers import IDEAS

    scores = IDEAS["selection"].measure(0, tmp_path)
    (of_variants,) = scores.values()
    assert list(of_variants) == ["best epoch of the mean", "best epoch of each output", "a training for each output"]
    assert all(-1 <= score <= 1 for score in of_variants.values())
    by_hand = {
        "best epoch of the mean": (0.1, 0.3),
        "best epoch of each output": (0.2, 0.6),
        "a training for each output": (0, 0),
    }
    found = [{"s": {variant: pair[seed] for variant, pair in by_hand.items()}} for seed in range(2)]
    sections = as_sections(IDEAS, as_record({"selection": found}, 1.0, "python -m studies selection"))
    document = tmp_path / "page.md"
    bins, selection = (f"### {IDEAS[name].title}\n" for name in ("bins", "selection"))
    document.write_text(f"before\n{TODAY}\n\n{selection}\nold\n\n{bins}\nkept\n\n<!-- ideas: end -->\nafter\n")
    replace_sections(document, IDEAS, sections)
    text = document.read_text()
    assert text.startswith(f"before\n{TODAY}\n\n{bins}\nkept\n\n{selection}\nBuilt in: ") and text.endswith(
        "end -->\nafter\n"
    )
    # differences .1 and .3: mean .2, deviation .1414, error .1, and Student's t of one degree at 95 % is 12.706
    assert "| best epoch of each output | 0.400 ± 0.283 | best epoch of the mean | +0.200 ± 1.271 | 2 of 2 |" in text
    assert "old" not in text and "2 seeds, measured on " in text and "`python -m studies selection`" in text
