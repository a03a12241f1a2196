"""Results in words and tables: for the screen, as JSON, and as a block inside a document."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import describe_machine
from studies.study import CONFIDENCE, Idea, Scores, compare

BEGIN = "<!-- ideas: begin (python -m studies writes what follows) -->"
END = "<!-- ideas: end -->"


def as_record(found: Mapping[str, Sequence[Scores]], seconds: float, command: str) -> dict[str, Any]:
    """All scores by idea, setting, variant and seed; with the machine, the command and the time it took, for JSON."""
    scores = {
        name: {
            setting: {variant: [run[setting][variant] for run in runs] for variant in variants}
            for setting, variants in runs[0].items()
        }
        for name, runs in found.items()
    }
    return {"machine": describe_machine(), "command": command, "seconds": round(seconds), "scores": scores}


def as_markdown(ideas: Mapping[str, Idea], record: Mapping[str, Any]) -> str:
    """The machine and the command, then for each idea what was built in, its tables, and what they say in words."""
    lines = [_preface(record)]
    for name, by_setting in record["scores"].items():
        lines += ["", f"### {ideas[name].title}", "", _prose(ideas[name].built_in)]
        for setting, scores in by_setting.items():
            lines += ["", *_table(ideas[name], setting, scores)]
        lines += ["", "In words:", "", *(_verdicts(ideas[name], *found) for found in by_setting.items())]
    return "\n".join(lines) + "\n"


def _preface(record: Mapping[str, Any]) -> str:
    machine = record["machine"]
    n_seeds = len(next(iter(next(iter(next(iter(record["scores"].values())).values())).values())))
    return (
        f"Measured on {machine['date']} with `{record['command']}` in {record['seconds'] / 60:.1f} minutes: "
        f"{machine['processor']}, {machine['cores']} cores, two processes of one thread, no GPU, Python "
        f"{machine['python']}, PyTorch {machine['torch']}, NumPy {machine['numpy']}. {n_seeds} seeds; each draws people, "
        "features, noise and initial weights anew, and all variants of a seed see the same. A score is the mean ± standard "
        "deviation over seeds. The difference is paired, seed by seed: its mean ± half of its "
        f"{CONFIDENCE:.0%} interval (Student's t), and in how many seeds it is above zero. *Helps here* is said where the "
        "whole interval is above zero. So many comparisons are made that one or two of them may be luck."
    )


def replace_block(path: Path, block: str) -> None:
    """Put a block between the two comments of a document.

    Raises:
        ValueError: the document does not have both.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} has no place for the results. Put {BEGIN!r} and {END!r} where they belong.")
    partial = path.with_name(path.name + ".partial")
    partial.write_text(f"{before}{begin}\n\n{block}\n{end}{after}", encoding="utf-8")
    partial.replace(path)


def _table(idea: Idea, setting: str, scores: Mapping[str, Sequence[float]]) -> list[str]:
    lines = [f"| {setting} | score | against | difference | better in |", "| --- | ---: | --- | ---: | ---: |"]
    for variant, own in scores.items():
        cells = [variant, f"{statistics.mean(own):.3f} ± {statistics.stdev(own):.3f}", "", "", ""]
        if variant in idea.against:
            found = compare(own, scores[idea.against[variant]])
            difference = f"{found.difference:+.3f} ± {found.margin:.3f}"
            cells[2:] = [idea.against[variant], difference, f"{found.n_better} of {found.n_seeds}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _verdicts(idea: Idea, setting: str, scores: Mapping[str, Sequence[float]]) -> str:
    """One line for a setting: each verdict, and the variants it is of with their differences."""
    by_verdict: dict[str, list[str]] = {}
    for variant in scores:
        if variant in idea.against:
            found = compare(scores[variant], scores[idea.against[variant]])
            by_verdict.setdefault(found.verdict, []).append(f"{variant} ({found.difference:+.3f})")
    said = [f"*{verdict}*: {', '.join(variants)}" for verdict, variants in sorted(by_verdict.items(), reverse=True)]
    return f"- {setting}. {'; '.join(said)}."


def _prose(docstring: str) -> str:
    """What a docstring says after its first line, in one paragraph."""
    return " ".join(docstring.split("\n\n", 1)[1].split())
