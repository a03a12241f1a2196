"""Cells of CSV files that people open: names come from files of others, and a spreadsheet runs some texts as formulas."""

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet runs a cell that begins with one of these


def as_cell(value: object) -> object:
    """A value for a CSV file; a text that a spreadsheet would run as a formula gets an apostrophe in front of it."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_STARTS) else value
