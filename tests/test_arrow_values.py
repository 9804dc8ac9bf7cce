"""pyarrow's columns from and to Python and numpy: as pyarrow itself has them, and without pandas."""

from __future__ import annotations

import subprocess
import sys
from datetime import datetime, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from energyprof.arrow_values import floats, having, having_none, integers, texts, values_of, whole_numbers

pa.array([0])  # imports pandas: not within what hypothesis times
INT64 = st.integers(-(2**63), 2**63 - 1)
TIMES = st.datetimes(timezones=st.just(timezone.utc))


@given(values=st.lists(st.text()))
def test_texts_and_integers_are_as_pyarrow_makes_them(values: list[str]) -> None:
    kept = [value.encode("utf-8", "replace").decode() for value in values]
    assert texts(values).equals(pa.array(kept, pa.string()))
    assert integers(map(len, values)).equals(pa.array([len(value) for value in values], pa.int64()))


def chunked(values: list[object], kind: pa.DataType, at: int) -> pa.ChunkedArray:
    """A column in two pieces, the first of which does not begin where its buffer does."""
    first = pa.array([None, *values[:at]], kind).slice(1)
    return pa.chunked_array([first, pa.array(values[at:], kind)], kind)


@given(values=st.lists(st.none() | TIMES), at=st.integers(0, 9))
def test_times_come_out_as_they_went_in(values: list[object], at: int) -> None:
    assert values_of(chunked(values, pa.timestamp("us", tz="UTC"), at)) == values


@given(values=st.lists(st.none() | st.floats(allow_nan=False)), at=st.integers(0, 9))
def test_a_number_that_is_not_known_is_nan(values: list[object], at: int) -> None:
    found = floats(chunked(values, pa.float64(), at))
    assert [None if np.isnan(one) else one for one in found.tolist()] == values
    found[:] = 0.0  # a copy, and the reader's own


@given(values=st.lists(INT64), at=st.integers(0, 9))
def test_whole_numbers_keep_every_digit(values: list[object], at: int) -> None:
    assert whole_numbers(chunked(values, pa.int64(), at)).tolist() == values


def test_whole_numbers_have_no_nulls() -> None:
    with pytest.raises(ValueError, match="nulls"):
        whole_numbers(pa.chunked_array([[1, None]]))


def test_rows_are_found_by_a_text_or_a_number() -> None:
    table = pa.table({"a": ["x", None, "y", "x"], "n": [1, 2, None, 4]})
    assert having(table, "a", "x")["n"].to_pylist() == [1, 4]
    assert having(table, "n", 2)["a"].to_pylist() == [None]
    assert len(having(table, "a", "z")) == 0
    assert having_none(pa.table({"f": ["", "x", None], "n": [1, 2, 3]}), "f")["n"].to_pylist() == [1, 3]


def test_nothing_of_it_imports_pandas() -> None:
    program = (
        "import sys, datetime, pyarrow as pa; from energyprof.arrow_values import *\n"
        "t = pa.Table.from_arrays([texts(['a', 'b']), integers([1, 2])], names=['a', 'n'])\n"
        "t = having(having(t, 'a', 'a'), 'n', 1); assert not len(having_none(t, 'a'))\n"
        "assert floats(t['n']).tolist() == whole_numbers(t['n']).tolist() == [1]\n"
        "print(values_of(t['n'].cast(pa.timestamp('us', tz='UTC'))), 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{[datetime(1970, 1, 1, 0, 0, 0, 1, timezone.utc)]} False"
