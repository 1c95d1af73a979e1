"""Cells of a spreadsheet as people see them."""

from __future__ import annotations

from datetime import date, datetime, time

import pytest
from colloquy_server.files.extractors.number_formats import shown


@pytest.mark.parametrize(
    ("value", "number_format", "text"),
    [
        (True, "General", "TRUE"),
        (0.1 + 0.2, "General", "0.3"),
        (99_999, "General", "99999"),
        (0.125, "0%", "12.5%"),
        (0.5, "0.00%", "50.00%"),
        (1234.5, '_-* #,##0.00\\ "€"_-;-* #,##0.00\\ "€"_-', "1234.50 €"),
        (1234.5, '#\\ ##0.00\\ "€"', "1234.50 €"),
        (-5, "_($* #,##0.00_);_($* (#,##0.00)", "$-5.00"),
        (5, "[$£-809]#,##0.00", "£5.00"),
        (5, "#,##0.00 [$CHF]", "5.00 CHF"),
        (1.239, '0.00 "kg"', "1.239 kg"),
        (7, "00000", "00007"),
        (12_345_678, "000-00-0000", "012345678"),
        (5_551_234, "000\\-0000", "5551234"),
        (12_000, '0.0,"K"', "12000"),
        (1_500, "0.00E+00", "1500"),
        (3, '[Red]0.0" m"', "3.0 m"),
        (datetime.fromisoformat("2024-03-01"), "yyyy-mm-dd", "2024-03-01"),
        (datetime.fromisoformat("2024-03-01"), "yyyy-mm-dd hh:mm", "2024-03-01 00:00:00"),
        (datetime.fromisoformat("2024-03-01 14:30"), "dd/mm/yy", "2024-03-01 14:30:00"),
        (date(2024, 3, 1), "", "2024-03-01"),
        (time(9, 5), "h:mm", "09:05:00"),
        ("007", "0%", "007"),
    ],
)
def test_a_cell_is_given_as_people_see_it(value: object, number_format: str, text: str) -> None:
    assert shown(value, number_format) == text
