"""pyarrow's columns from and to Python and numpy, without pandas.

pyarrow imports pandas as soon as it is asked for an array of Python's values (`pa.array`), a scalar, a time or a numpy
array, only to see whether it was given something of pandas': a quarter of a second of every command. What is here reads
and writes the buffers instead.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def texts(values: Iterable[str]) -> pa.StringArray:
    """Texts for pyarrow."""
    encoded = [value.encode("utf-8", "replace") for value in values]
    offsets = array("i", accumulate(map(len, encoded), initial=0))
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def integers(values: Iterable[int]) -> pa.Int64Array:
    """Whole numbers for pyarrow."""
    packed = array("q", values)
    return pa.Int64Array.from_buffers(pa.int64(), len(packed), [None, pa.py_buffer(packed)])


def having(table: pa.Table, column: str, value: str | int) -> pa.Table:
    """The rows that have this value in a column."""
    return having_any(table, column, texts([value]) if isinstance(value, str) else integers([value]))


def having_any(table: pa.Table, column: str, values: pa.Array) -> pa.Table:
    """The rows that have one of these values in a column."""
    return table.filter(pc.call_function("is_in", [table[column]], pc.SetLookupOptions(values)))


def having_none(table: pa.Table, column: str) -> pa.Table:
    """The rows that have no text in a column: null, or an empty one."""
    empty = pc.call_function("is_in", [table[column]], pc.SetLookupOptions(texts([""])))
    return table.filter(pc.call_function("or", [empty, pc.call_function("is_null", [table[column]])]))


def values_of(column: pa.ChunkedArray) -> list[Any]:
    """A column as Python has it, null as None; times in UTC."""
    if not pa.types.is_timestamp(column.type):
        return list(column.to_pylist())
    microseconds = column.cast(pa.timestamp("us", column.type.tz)).cast(pa.int64()).to_pylist()
    return [None if one is None else _EPOCH + timedelta(microseconds=one) for one in microseconds]


def floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """A column of numbers, null as nan, shape (n,)."""
    whole = _one_piece(column.cast(pa.float64()))
    found: NDArray[np.float64] = _raw(whole, np.float64)
    if whole.null_count:
        bits = np.frombuffer(whole.buffers()[0], np.uint8)
        known = np.unpackbits(bits, bitorder="little")[whole.offset : whole.offset + len(whole)]
        found[known == 0] = np.nan
    return found


def whole_numbers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """A column of whole numbers without nulls, shape (n,).

    Raises
    ------
    ValueError
        It has nulls.
    """
    whole = _one_piece(column.cast(pa.int64()))
    if whole.null_count:
        raise ValueError("a column of whole numbers has nulls")
    found: NDArray[np.int64] = _raw(whole, np.int64)
    return found


def _one_piece(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole


def _raw(whole: pa.Array, kind: Any) -> Any:
    data = whole.buffers()[1]
    if data is None or not len(whole):
        return np.zeros(0, kind)
    return np.frombuffer(data, kind, count=len(whole), offset=whole.offset * np.dtype(kind).itemsize).copy()
