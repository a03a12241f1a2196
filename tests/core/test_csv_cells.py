"""Cells of CSV files: a spreadsheet shows what it would run, and numbers stay numbers."""

import pytest

from abaw.core.csv_cells import as_cell


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-rf", "@SUM(A1)", "\tx", "\r=1", "\n=1", "-1+1", "+1|x", "-", "-1e", "-1_0", "-１"]
)
def test_a_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text):
    assert as_cell(text) == f"'{text}"


@pytest.mark.parametrize("value", ["-1", "-0.25", "+1.5e-3", "-.5", "1", "a=b", "", " =1", "'x", -1, -0.5, None, True])
def test_numbers_and_other_texts_stay(value):
    assert as_cell(value) is value
