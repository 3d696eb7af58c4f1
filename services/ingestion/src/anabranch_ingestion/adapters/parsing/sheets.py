"""Workbooks through openpyxl, read only: a heading and a table for each sheet, values as saved, formulas not run."""

from __future__ import annotations

import io
from datetime import date, datetime, time
from itertools import islice

import openpyxl  # type: ignore[import-untyped]  # it has no types
import xlrd  # type: ignore[import-untyped]  # it has no types

from anabranch_ingestion.domain.text import Composer

_ROWS = 200_000
_COLUMNS = 1_000


def compose(data: bytes, out: Composer) -> str:
    """Adds a heading and tables a sheet; blank rows part tables. Returns the parser's name."""
    book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True, keep_links=False)
    try:
        out.title = book.properties.title or ""
        for number, sheet in enumerate(book.worksheets, start=1):
            out.page = number
            out.heading(sheet.title, 2)
            # Saved dimensions may claim a million rows.
            sheet.reset_dimensions()
            table: list[list[str]] = []
            for row in islice(sheet.iter_rows(values_only=True, max_col=_COLUMNS), _ROWS):
                cells = [_shown(value) for value in row]
                if any(cells):
                    table.append(cells)
                elif table:
                    _add(table, out)
                    table = []
            _add(table, out)
    finally:
        book.close()
    return f"openpyxl-{openpyxl.__version__}"


def compose_old(data: bytes, out: Composer) -> str:
    """The same for Excel 2 to 2003, through xlrd."""
    book = xlrd.open_workbook(file_contents=data, logfile=io.StringIO(), on_demand=True)
    try:
        for number in range(book.nsheets):
            sheet = book.sheet_by_index(number)
            out.page = number + 1
            out.heading(sheet.name, 2)
            rows = (sheet.row(r) for r in range(min(sheet.nrows, _ROWS)))
            out.table([[_cell(cell, book.datemode) for cell in row[:_COLUMNS]] for row in rows])
            book.unload_sheet(number)
    finally:
        book.release_resources()
    return f"xlrd-{xlrd.__VERSION__}"


def _cell(cell: xlrd.sheet.Cell, datemode: int) -> str:
    if cell.ctype == xlrd.XL_CELL_DATE:
        try:
            return _shown(xlrd.xldate.xldate_as_datetime(cell.value, datemode))
        except (ValueError, OverflowError):
            return _shown(cell.value)
    if cell.ctype == xlrd.XL_CELL_BOOLEAN:
        return _shown(bool(cell.value))
    return "" if cell.ctype in (xlrd.XL_CELL_ERROR, xlrd.XL_CELL_EMPTY) else _shown(cell.value)


def _add(table: list[list[str]], out: Composer) -> None:
    """Adds a table without the blank columns on its left."""
    if not table:
        return
    left = min(next((i for i, cell in enumerate(row) if cell), 0) for row in table)
    out.table([row[left:] for row in table])


def _shown(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:  # noqa: PLR2004  exact in a double
        return str(int(value))
    if isinstance(value, datetime):
        return value.date().isoformat() if value.time() == time() else value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, date):
        return value.isoformat()
    return str(value)
