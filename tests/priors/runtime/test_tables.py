"""Tables of figures as text and HTML."""

import math

from priors.runtime.report.tables import html_number, html_table, number, text_table


def test_text_columns_are_as_wide_as_their_widest_cell_and_end_at_one_edge():
    text = text_table(
        "method", ["RMSE", "a long heading"], [("tv", ["1.5", "2"]), ("nerd-fast", ["12345", "n/a"])]
    )
    assert text.splitlines() == [
        "method      RMSE  a long heading",
        "tv           1.5               2",
        "nerd-fast  12345             n/a",
    ]


def test_what_is_no_number_says_so():
    assert [number(value) for value in (1.23456, 7, None, math.nan, "x")] == [
        "1.235",
        "7",
        "n/a",
        "n/a",
        "n/a",
    ]
    assert html_number(0.5, ".1f") == "0.5"
    assert html_number(None, why='a "reason"') == '<abbr title="a &quot;reason&quot;">n/a</abbr>'


def test_labels_and_headings_of_html_are_text_and_cells_are_html():
    table = html_table("<v>", ["a & b"], [("<script>", ["<b>1</b>"])])
    assert "<script>" not in table
    for piece in ("&lt;v&gt;", "a &amp; b", "&lt;script&gt;", "<td><b>1</b></td>"):
        assert piece in table
