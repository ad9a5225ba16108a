"""Tables of plain text, written out by hand."""

from captum_clrp.tables import text_table


def test_columns_are_as_wide_as_their_widest_cell_and_lines_end_without_spaces():
    assert text_table(["a", "long"], [["three", 1], ["", ""]]) == "a      long\n-----  ----\nthree  1\n"


def test_without_a_rule_and_without_rows():
    assert text_table(["", "x"], [["ab", 2.5]], ruled=False) == "    x\nab  2.5"
    assert text_table(["a", "b"], []) == "a  b\n-  -"
