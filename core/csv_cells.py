"""Cells of CSV files that people open: names come from files of others, and a spreadsheet runs some texts as formulas."""

import re

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")  # a spreadsheet runs a cell that begins with one of these
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?", re.IGNORECASE)


def as_cell(value: object) -> object:
    """A value for a CSV file; a text that a spreadsheet would run as a formula gets an apostrophe in front of it.

    Numbers stay as they are, written as text or not.
    """
    is_formula = isinstance(value, str) and value.startswith(FORMULA_STARTS) and not NUMBER.fullmatch(value)
    return f"'{value}" if is_formula else value
