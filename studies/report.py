"""Results in words and tables: for the screen, as JSON, and as sections of a document."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measure import describe_machine
from studies.study import Idea, Scores, compare

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


def as_sections(ideas: Mapping[str, Idea], record: Mapping[str, Any]) -> dict[str, str]:
    """By its heading, for each idea what was built in, its tables, what they say in words, and how they were made."""
    sections = {}
    for name, by_setting in record["scores"].items():
        lines = [_prose(ideas[name].built_in)]
        for setting, scores in by_setting.items():
            lines += ["", *_table(ideas[name], setting, scores)]
        lines += ["", "In words:", "", *(_verdicts(ideas[name], *found) for found in by_setting.items())]
        sections[_heading(ideas[name])] = "\n".join([*lines, "", _origin(record, by_setting)])
    return sections


def _heading(idea: Idea) -> str:
    return f"### {idea.title}"


def _origin(record: Mapping[str, Any], by_setting: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    machine = record["machine"]
    n_seeds = len(next(iter(next(iter(by_setting.values())).values())))
    return (
        f"{n_seeds} seeds, measured on {machine['date']} with `{record['command']}`: {machine['processor']}, "
        f"{machine['cores']} cores, Python {machine['python']}, PyTorch {machine['torch']}, NumPy {machine['numpy']}."
    )


def replace_sections(path: Path, ideas: Mapping[str, Idea], sections: Mapping[str, str]) -> None:
    """Put sections, by their headings, between the two comments of a document; those of other ideas stay.

    Raises:
        ValueError: the document does not have both comments.
    """
    text = path.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    found, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} has no place for the results. Put {BEGIN!r} and {END!r} where they belong.")
    parts = f"\n{found}".split("\n### ")[1:]
    kept = {f"### {heading}": text.strip() for heading, _, text in (part.partition("\n") for part in parts)} | {
        **sections
    }
    partial = path.with_name(path.name + ".partial")
    block = "".join(f"{heading}\n\n{kept[heading]}\n\n" for heading in map(_heading, ideas.values()) if heading in kept)
    partial.write_text(f"{before}{begin}\n\n{block}{end}{after}", encoding="utf-8")
    partial.replace(path)


def _table(idea: Idea, setting: str, scores: Mapping[str, Sequence[float]]) -> list[str]:
    lines = [f"| {setting} | score | against | difference | better in |", "| --- | ---: | --- | ---: | ---: |"]
    for variant, own in scores.items():
        score = f"{statistics.mean(own):.3f} ± {statistics.stdev(own):.3f}"
        if variant not in idea.against:
            lines.append(f"| {variant} | {score} |  |  |  |")
        for reference in idea.against.get(variant, ()):
            found = compare(own, scores[reference])
            difference = f"{found.difference:+.3f} ± {found.margin:.3f}"
            cells = [variant, score, reference, difference, f"{found.n_better} of {found.n_seeds}"]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _verdicts(idea: Idea, setting: str, scores: Mapping[str, Sequence[float]]) -> str:
    """One line for a setting: each verdict, and the variants it is of with their differences."""
    by_verdict: dict[str, list[str]] = {}
    for variant in scores:
        references = idea.against.get(variant, ())
        for reference in references:
            found = compare(scores[variant], scores[reference])
            against = f" against {reference}" if len(references) > 1 else ""
            by_verdict.setdefault(found.verdict, []).append(f"{variant}{against} ({found.difference:+.3f})")
    said = [f"*{verdict}*: {', '.join(variants)}" for verdict, variants in sorted(by_verdict.items(), reverse=True)]
    return f"- {setting}. {'; '.join(said)}."


def _prose(docstring: str) -> str:
    """What a docstring says after its first line, in one paragraph."""
    return " ".join(docstring.split("\n\n", 1)[1].split())
