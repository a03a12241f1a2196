"""Published scores: each has an edition, a split and a source, and what is said about them follows from them."""

from collections import Counter

from abaw.core.tasks import TASKS
from abaw.evaluate.published_scores import FELL, PUBLISHED, SPLITS, YEARS, published_for


def test_every_score_says_where_it_is_from_and_is_listed_once() -> None:
    others = {"ah", "vd", "emi", "ce"}
    for one in PUBLISHED:
        assert one.task in {*TASKS, *others} and one.edition in YEARS and one.split in SPLITS and one.source
        most = 3 if one.task == "mtl" else 1
        assert 0 < float(one.score) < most and (not one.high or float(one.score) < float(one.high) < most)
        assert one.year == YEARS[one.edition][1] and str(one.year) in f"{one.venue} {one.year}"
    counts = Counter((one.task, one.edition, one.system, one.split) for one in PUBLISHED)
    assert max(counts.values()) == 1
    assert {one.task for one in PUBLISHED} == {"va", "expr", "au", "mtl", "lsd", "vgaf", *others}


def test_newest_editions_come_first() -> None:
    numbered = {f"{n}th": n for n in range(4, 12)} | {"3rd": 3}
    for task in TASKS:
        editions = [numbered[one.edition] for one in published_for(task) if one.edition in numbered]
        assert editions == sorted(editions, reverse=True), task
    assert published_for("nothing") == ()


def test_scores_are_those_of_the_papers() -> None:
    scores = {(one.task, one.edition, one.system, one.split): one.numbers for one in PUBLISHED}
    assert scores["va", "10th", "RAS, 1st", "V"] == "0.658"
    assert scores["va", "5th", "Netease Fuxi, 1st", "T"] == "0.637"
    assert scores["au", "10th", "USTC-IAT, 1st", "T"] == "0.51"
    assert scores["mtl", "7th", "Winner", "T"] == "1.529"
    assert scores["lsd", "4th", "HSEmotion", "V"] == "0.593 to 0.609"
    assert scores["expr", "notebooks", "HSEmotion, box filter over 101 frames", "V"] == "0.432"


def test_how_far_validation_fell_follows_from_the_scores() -> None:
    """Those of 2026 that have both; the smallest and the largest fall, rounded to hundredths."""
    scores = {(one.task, one.system, one.split): float(one.score) for one in PUBLISHED if one.edition == "10th"}
    ranked = ("va RAS, 1st", "expr EagleonPamir1, 1st", "au HSEmotion", "vd HSEmotion")
    falls = [
        scores[task, system, "V"] - scores[task, system, "T"] for task, _, system in (r.partition(" ") for r in ranked)
    ]
    assert f"fell by {min(falls):.2f} to {max(falls):.2f}".replace("0.", ".") in FELL
