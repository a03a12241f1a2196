"""Benchmark reports as a Markdown page."""

from typing import Any

from benchmarks.measure import show


def as_markdown(reports: list[dict[str, Any]], command: str) -> str:
    """The page: the machine, the command that was run, and of each benchmark its requirements, its method and its raw figures."""
    lines = ["# Benchmarks", ""]
    lines += _machine(reports[0]["machine"], command)
    for report in reports:
        lines += ["", f"## {report['name']}", ""]
        lines += [f"`python -m benchmarks.{report['name']}`. {' '.join(report['method'])}", ""]
        rows = [
            (
                wanted["text"],
                wanted["target"],
                _figure(wanted["measured"], wanted["unit"]),
                "yes" if wanted["met"] else "no",
            )
            for wanted in report["requirements"]
        ]
        lines += _table(("requirement", "target", "measured", "met"), rows)
        figures = [(name, f"{show(value)} x") for name, value in report["ratios"].items()]
        figures += [(name, show(value)) for name, value in report["medians"].items()]
        if figures:
            lines += ["", *_table(("figure", "median"), figures)]
    return "\n".join(lines) + "\n"


def _machine(machine: dict[str, Any], command: str) -> list[str]:
    return [
        f"Measured on {machine['date']} with `{command}`: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB of memory, no GPU used, {machine['system']}, Python {machine['python']}, "
        f"PyTorch {machine['torch']} ({machine['torch_threads']} threads), NumPy {machine['numpy']}, "
        f"Zarr {machine['zarr']}.",
        "",
        "Rates drift on shared machines. What is compared runs in turns within one process, and a ratio is the median "
        "over the turns: rely on the ratios.",
    ]


def _figure(value: float, unit: str) -> str:
    return f"{show(value)} {unit}".strip()


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    marks = ["---"] + ["---:"] * (len(head) - 1)
    return [f"| {' | '.join(row)} |" for row in (head, tuple(marks), *rows)]
