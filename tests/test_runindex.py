"""The index of many runs: it spares opening their files, and never changes what is read."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from energyprof import runindex, selection, store, tablefile
from energyprof.compaction import compact
from energyprof.schema import VERSION, VERSION_KEY
from energyprof.seal import seal
from tests.conftest import ROOT
from tests.folders import written as journal
from tests.rows import row, run_id
from tests.simulate import world

MANY = runindex.WORTH + 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dataset(tmp_path_factory.mktemp("many") / "runs")


@pytest.fixture
def out(made: Path, tmp_path: Path) -> str:
    """A copy whose index is there."""
    shutil.copytree(made, tmp_path / "runs")
    store.runs(str(tmp_path / "runs"))
    return str(tmp_path / "runs")


def dataset(out: Path) -> Path:
    for number in range(MANY):
        put(str(out), number)
    return out


def put(out: str, number: int, **told: Any) -> str:
    one = row(number, **{"name": f"run {number}", **told})
    path = store.file_path(out, "runs", one["started_utc"].date().isoformat(), f"{one['run_id']}.n")
    store.write(path, store.table_of("runs", [one]))
    return path


@contextmanager
def opening(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The files of the dataset that are opened meanwhile."""
    opened: list[str] = []
    real = tablefile.opened

    def noted(path: str, content: bytes | None = None) -> pq.ParquetFile:
        opened.append(path)
        return real(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(tablefile, "opened", noted)
        yield opened


def names(out: str) -> list[str]:
    return [one["name"] for one in store.runs(out).rows]


def test_the_second_listing_opens_no_file_and_says_the_same(
    out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opening(monkeypatch) as opened:
        indexed = store.runs(out).rows
    assert opened == []
    os.unlink(runindex.path_of(out))
    with opening(monkeypatch) as opened:
        assert store.runs(out).rows == indexed
    assert len(opened) == MANY
    assert os.path.exists(runindex.path_of(out))
    assert store.runs(out, ("run_id", "started_utc")).names == ["run_id", "started_utc"]


def test_it_lies_beside_the_runs_and_few_runs_have_none(out: str, tmp_path: Path) -> None:
    assert runindex.path_of(out) not in store.files(out, "runs")
    assert not Path(runindex.path_of(out)).is_relative_to(Path(out) / "runs")
    put(str(tmp_path / "few"), 1)
    assert names(str(tmp_path / "few")) == ["run 1"]
    assert not (tmp_path / "few" / "_index").exists()


def test_what_came_changed_or_went_is_seen_at_once(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(out, MANY)
    put(out, 3, name="again")
    os.unlink(put(out, 5))
    with opening(monkeypatch) as opened:
        found = names(out)
    assert found == ["again" if n == 3 else f"run {n}" for n in range(MANY + 1) if n != 5]
    assert len(opened) == 2
    store.remove(out, [run_id(0)])
    assert names(out) == found[1:]


def test_many_new_runs_join_it(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100, 100 + runindex.WORTH):
        put(out, number)
    os.unlink(put(out, 5))
    store.runs(out, ("run_id", "started_utc"))
    with opening(monkeypatch) as opened:
        assert len(names(out)) == MANY - 1 + runindex.WORTH
    assert opened == []
    assert len(pq.read_table(runindex.path_of(out))) == MANY - 1 + runindex.WORTH


@pytest.mark.parametrize(
    "words", [["ls"], ["ls", "--json"], ["ls", "--where", "steps>1"], ["compare", "run 1*", "run 2*"]]
)
def test_verbs_over_many_runs_load_neither_pandas_nor_what_seals(out: str, words: list[str]) -> None:
    """Each is half a second of a listing that takes one."""
    program = (
        "import sys; from energyprof.cli import main; status = main()\n"
        "print(status, *{'pandas', 'energyprof.seal', 'scipy.optimize'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words, "--out", out],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr.splitlines()[-1] == "0", done.stderr


def copied(out: str, to: Path) -> str:
    """As `cp -r` and most networks copy: other inodes, other times."""
    shutil.copytree(out, to, copy_function=shutil.copyfile)
    return str(to)


def test_a_copied_folder_finds_its_index_of_use(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = names(out)
    copy = copied(out, tmp_path / "copy")
    for _ in range(2):
        with opening(monkeypatch) as opened:
            assert names(copy) == expected
        assert opened == []
    own = pq.read_table(runindex.path_of(copy))
    inodes = {os.stat(os.path.join(copy, name)).st_ino for name in own["index_file"].to_pylist()}
    assert set(own["index_inode"].to_pylist()) == inodes  # the second listing need not look into them


def test_a_file_of_other_content_is_seen_though_its_name_size_and_time_are_the_same(
    out: str, tmp_path: Path
) -> None:
    """A run that is sealed again often has the size that it had, and some file systems count whole seconds."""
    path = store.file_path(out, "runs", "2026-11-20", f"{run_id(3)}.n")
    before = os.stat(path)
    assert put(out, 3, name="run 3", energy_j=777.0) == path
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = os.stat(path)
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    for folder in (out, copied(out, tmp_path / "copy")):
        joules = {one["name"]: one["energy_j"] for one in store.runs(folder).rows}
        assert (joules["run 3"], joules["run 4"]) == (777.0, 1000.0)


def test_the_index_of_a_copy_counts_only_for_files_that_are_the_same(out: str, tmp_path: Path) -> None:
    copy = copied(out, tmp_path / "copy")
    put(copy, 3, energy_j=5.0)
    os.unlink(put(copy, 4))
    put(copy, MANY)
    rows = {one["name"]: one["energy_j"] for one in store.runs(copy).rows}
    assert rows == {f"run {n}": 5.0 if n == 3 else 1000.0 for n in range(MANY + 1) if n != 4}


def test_of_a_copy_that_may_only_be_read_no_file_is_opened_either(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = names(out)
    copy = copied(out, tmp_path / "copy")

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(tablefile, "write", refuse)
    for _ in range(2):
        with opening(monkeypatch) as opened:
            assert names(copy) == expected
        assert opened == []


@pytest.mark.parametrize("harm", ["cut", "flipped", "text", "other columns", "newer", "gone"])
def test_an_index_that_rotted_is_made_anew(out: str, harm: str) -> None:
    path = Path(runindex.path_of(out))
    expected, whole = names(out), path.read_bytes()
    table = pq.read_table(path)
    if harm == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif harm == "flipped":
        path.write_bytes(whole[:3000] + bytes(255 - byte for byte in whole[3000:3200]) + whole[3200:])
    elif harm == "text":
        path.write_text("no parquet")
    elif harm == "other columns":
        pq.write_table(table.drop_columns(["name"]), path)
    elif harm == "newer":
        pq.write_table(table.replace_schema_metadata({VERSION_KEY: str(VERSION + 1)}), path)
    else:
        path.unlink()
    assert names(out) == expected
    assert names(out) == expected


def test_where_it_cannot_be_written_listing_goes_on(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "_index").write_text("a file where the folder would be")
    os.symlink(made / "runs", tmp_path / "runs")
    assert len(names(str(tmp_path))) == MANY


def test_damaged_files_are_named_each_time_and_are_not_in_it(out: str) -> None:
    bad = put(out, 3, name="again")
    Path(bad).write_bytes(b"PAR1")
    os.unlink(runindex.path_of(out))
    for _ in range(2):
        listing = store.runs(out)
        assert [path for path, _ in listing.damaged] == [bad]
        assert len(listing.rows) == MANY - 1


def test_an_older_file_has_nulls_for_what_it_lacks_with_and_without_it(out: str) -> None:
    path = put(out, 3, steps=7, tags="{}")
    table = pq.read_table(path, partitioning=None).drop_columns(["tags", "boot_id"])
    pq.write_table(table, path)
    for _ in range(2):
        (found,) = [one for one in store.runs(out).rows if one["run_id"] == run_id(3)]
        assert (found["tags"], found["steps"]) == (None, 7)
        if os.path.exists(runindex.path_of(out)):
            os.unlink(runindex.path_of(out))


def test_values_that_no_program_can_show_cost_their_file_alone(out: str) -> None:
    bad = put(out, 3)
    table = pq.read_table(bad, partitioning=None)
    at = table.column_names.index("started_utc")
    beyond = pa.array([2**62]).cast(pa.timestamp("us", tz="UTC"))
    pq.write_table(table.set_column(at, table.schema.field(at), beyond), bad)
    os.unlink(runindex.path_of(out))
    for _ in range(2):
        listing = store.runs(out)
        assert [path for path, _ in listing.damaged] == [bad]
        assert len(listing.rows) == MANY - 1


def test_a_folder_that_is_laid_out_otherwise_gets_no_index_among_its_runs(out: str, tmp_path: Path) -> None:
    deeper = tmp_path / "deeper" / "runs" / "lab"
    shutil.copytree(Path(out) / "runs", deeper)
    for _ in range(2):
        assert len(names(str(tmp_path / "deeper"))) == MANY
    assert not list((tmp_path / "deeper").rglob("_index"))


def test_a_newer_file_is_refused_though_there_is_an_index(out: str) -> None:
    path = put(out, 3)
    newer = pq.read_table(path, partitioning=None).replace_schema_metadata({VERSION_KEY: str(VERSION + 1)})
    pq.write_table(newer, path)
    with pytest.raises(store.NewerSchema):
        store.runs(out)


def test_filters_selections_and_merged_files_go_with_it(out: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with opening(monkeypatch) as opened:
        chosen = selection.select([f"{run_id(4)},@last", "run 1*"], out)
    assert [len(group.runs) for group in chosen.groups] == [2, 11]
    ids = {run["run_id"] for group in chosen.groups for run in group.runs}
    assert {store.id_of(path) for path in opened} <= ids  # all their columns are read from their own files
    compact(out, everything=True)
    put(out, 3, name="again")
    assert sorted(names(out)) == sorted("again" if n == 3 else f"run {n}" for n in range(MANY))


@pytest.mark.parametrize(("ending", "kept"), [("40", True), ("41", False)])
def test_one_run_in_64_keeps_it_up_as_it_is_sealed(
    made: Path, tmp_path: Path, ending: str, kept: bool
) -> None:
    shutil.copytree(made / "runs", tmp_path / "runs")
    run = world(np.random.default_rng(0), seconds=3.0)
    folder = Path(journal(run, tmp_path / "_journal" / "run"))
    facts = json.loads((folder / "run.json").read_text())
    facts |= {"run_id": f"01930000-0000-7000-8000-0000000000{ending}", "out": str(tmp_path)}
    (folder / "run.json").write_text(json.dumps(facts))
    seal(str(folder))
    assert os.path.exists(runindex.path_of(str(tmp_path))) == kept
