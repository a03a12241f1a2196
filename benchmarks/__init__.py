"""Measurements of what the package promises: `python -m benchmarks.NAME`, or `python -m benchmarks.all`.

Each prints a table on standard error and one JSON object on standard output. Rates drift on a shared machine, so
what is compared runs in turns within one process, and a ratio is the median over the turns.
"""
