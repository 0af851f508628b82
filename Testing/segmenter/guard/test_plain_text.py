import os

import pytest

from DanteSegmenterLib.errors import InputError
from DanteSegmenterLib.guard.plain_text import csv_cell, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Müller-Lüdenscheidt 頭 😀", "Müller-Lüdenscheidt 頭 😀"),
        ("two\r\nlines\tand\u2028more", "two lines and more"),
        ("\x1b]0;owned\x07\x1b[2J\x9b31m", "]0;owned[2J31m"),
        ("\u202etxet\u2066 \u200bhidden\ufeff", "txet hidden"),
        ("half \ud800 of a pair", "half \ufffd of a pair"),
        (os.fsdecode(b"M\xfcller"), r"M\xfcller"),
        ("no\xa0break", "no break"),
        ("two  spaces of one's own", "two  spaces of one's own"),
        ("<b>x</b> $^$", "<b>x</b> $^$"),
        ("", ""),
    ],
)
def test_text_becomes_one_printable_line(text, shown):
    assert one_line(text) == shown
    assert one_line(shown) == shown and shown.isprintable()


@pytest.mark.parametrize("text", ["x" * 201, "x" * 10_000_000, "x y" * 100])
def test_long_text_is_truncated_with_a_mark(text):
    assert len(one_line(text)) <= 200 and one_line(text).endswith("...")
    assert one_line("x" * 200) == "x" * 200


@pytest.mark.parametrize(
    "text",
    ["=1+1", "@SUM(A1)", "-foo", "+foo", "-2+3", "\t=1", " \r\n=1", "\x00=1", "-inf", "＝1", '=HYPERLINK("http://x")'],
)
def test_cell_is_never_a_formula(text):
    cell = csv_cell(text)
    assert cell.startswith("'") and csv_cell(cell) == cell


@pytest.mark.parametrize("text", ["-1", "+1.5", "-.5", "-1.5e-3", "1e9", "", "BraTS-001", "O'Neil", "a=b"])
def test_numbers_and_names_are_unchanged(text):
    assert csv_cell(text) == text


def test_every_error_is_one_printable_line():
    assert str(InputError("'a\x1b[31m\nb' does not exist.")) == "'a[31m b' does not exist."
