"""The verbs beside `run`: what they print of a dataset, and how they answer wrong use."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from energyprof import cli, store
from energyprof.schema import RUNS, VERSION, VERSION_KEY, schema
from tests.conftest import ROOT, Completed, Runner
from tests.lab import VirtualHardware

NAMES = [
    "plain",
    "new\nline",
    "../../etc/passwd",
    "\x00\x1b[31mred\x07",
    "模型/α",
    "",
    "\u202eevil",
    "a\u2028b\r",
]


class Dataset:
    """Runs that are written as `seal` writes them."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.ids: list[str] = []

    def add(self, name: str = "a", *, regions: list[str] | None = None, **values: Any) -> str:
        number = len(self.ids)
        started = datetime(2026, 11, 20, 12, tzinfo=timezone.utc) + timedelta(minutes=number)
        milliseconds = f"{round(started.timestamp() * 1e3):012x}"
        run_id = values.pop("run_id", f"{milliseconds[:8]}-{milliseconds[8:]}-7000-8000-{number:012x}")
        self.ids.append(run_id)
        keys = {"run_id": run_id, "node": "here"}
        figure = {"energy_j": 1234.5, "u95_j": 61.0, "method": "counter"}
        run = {
            **keys,
            **figure,
            "name": name,
            "status": "finished",
            "started_utc": started,
            "duration_s": 24.3,
            "measured_j": 1234.5,
            "modelled_j": 0.0,
            "power_w": 50.8,
            "co2e_g": 0.019,
            "intensity_g_per_kwh": 56.0,
            "intensity_place": "FRA",
            "intensity_year": 2023,
            "flags": "",
            "command": json.dumps(["python", str(name)]),
            "missing": json.dumps([]),
            **values,
        }
        channel = {**keys, **figure, "channel": "gpu:0", "in_total": True, "scope": name, "device": "{}"}
        rows = [
            {
                **keys,
                **figure,
                "rank": 0,
                "row_kind": "region",
                "region": region,
                "depth": 0,
                "channel": "total",
                "calls": 1,
                "duration_s": 1.0,
                "flags": "",
            }
            for region in regions or []
        ]
        for table, part in (("runs", [run]), ("channels", [channel]), ("intervals", rows)):
            store.write(self.path(table, run_id), store.table_of(table, part))
        return run_id

    def path(self, table: str, stem: str) -> str:
        return store.file_path(str(self.out), table, "2026-11-20", stem)


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return Dataset(tmp_path / "runs")


@pytest.fixture
def verb(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Completed]:
    """The command line in this process, on the dataset: most of these tests are about words."""
    monkeypatch.setenv("ENERGYPROF_OUT", str(dataset.out))

    def call(*arguments: str) -> Completed:
        monkeypatch.setattr(sys, "argv", ["energyprof", *arguments])
        code = cli.main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return Completed(arguments, code, printed.out, printed.err)

    return call


def shown(done: Completed) -> str:
    """The id of the run that `show` printed."""
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[1]


# --- ls --------------------------------------------------------------------------------------------------


def test_ls_prints_a_line_a_run_oldest_first(dataset: Dataset, verb: Callable[..., Completed]) -> None:
    for name in ("first", "second", "third"):
        dataset.add(name)
    lines = verb("ls").stdout.splitlines()
    assert [line.split()[3] for line in lines[1:]] == ["first", "second", "third"]
    assert "1.23 ± 0.06 kJ" in lines[1]
    assert lines[0].split() == [
        "run",
        "started",
        "(UTC)",
        "name",
        "status",
        "time",
        "energy",
        "measured",
        "CO2e",
    ]
    assert [line.split()[3] for line in verb("ls", "-n", "2").stdout.splitlines()[1:]] == ["second", "third"]


def test_ls_as_json_has_the_columns_of_the_dataset(dataset: Dataset, verb: Callable[..., Completed]) -> None:
    dataset.add("a", energy_j=None, reason="below_resolution")
    dataset.add("b")
    rows = json.loads(verb("ls", "--json").stdout)
    assert [row["name"] for row in rows] == ["a", "b"]
    assert [list(row) for row in rows] == [[name for name, _, _ in RUNS]] * 2
    assert rows[0]["energy_j"] is None
    assert rows[1]["energy_j"] == 1234.5
    assert rows[0]["started_utc"] == "2026-11-20T12:00:00+00:00"


def test_an_empty_dataset_is_an_empty_list_and_a_hint(verb: Callable[..., Completed]) -> None:
    assert json.loads(verb("ls", "--json").stdout) == []
    done = verb("ls")
    assert (done.returncode, done.stdout) == (0, "")
    assert "energyprof run" in done.stderr


def test_a_line_a_run_whatever_is_in_the_names(dataset: Dataset, verb: Callable[..., Completed]) -> None:
    for name in NAMES:
        dataset.add(name)
    lines = verb("ls").stdout.split("\n")[:-1]
    assert len(lines) == 1 + len(NAMES)
    assert all(line.isprintable() for line in lines)
    assert [row["name"] for row in json.loads(verb("ls", "--json").stdout)] == NAMES


# --- show ------------------------------------------------------------------------------------------------


def test_a_run_is_found_by_place_id_beginning_of_an_id_and_name(
    dataset: Dataset, verb: Callable[..., Completed]
) -> None:
    first, second, third = (dataset.add(name) for name in ("one", "two", "three"))
    assert shown(verb("show")) == third
    assert shown(verb("show", "@last")) == third
    assert shown(verb("show", "@last~0")) == third
    assert shown(verb("show", "@last~1")) == second
    assert shown(verb("show", first)) == first
    assert shown(verb("show", second[:13])) == second
    assert shown(verb("show", second[:13].upper())) == second
    assert shown(verb("show", "one")) == first


def test_show_as_json_is_the_runs_row_its_channels_and_its_regions(
    dataset: Dataset, verb: Callable[..., Completed]
) -> None:
    run_id = dataset.add("x", regions=["a", "b"])
    data = json.loads(verb("show", "--json").stdout)
    assert data["run"]["run_id"] == run_id
    assert [c["channel"] for c in data["channels"]] == ["gpu:0"]
    assert [r["region"] for r in data["regions"]] == ["a", "b"]


def test_show_says_what_it_worked_out_anew_and_what_is_stored(
    dataset: Dataset, verb: Callable[..., Completed]
) -> None:
    dataset.add()
    done = verb("show", "--intensity", "100", "--json")
    assert done.returncode == 0
    told = "energyprof: worked out anew for --intensity 100; stored are "
    assert (done.stderr.startswith(told), done.stderr.count("\n")) == (True, 1)
    assert json.loads(done.stdout)["said_anew"] == {"intensity": "100"}
    refused = verb("show", "--intensity", "nothing")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("name", NAMES)
def test_show_keeps_every_name_on_its_line(
    dataset: Dataset, verb: Callable[..., Completed], name: str
) -> None:
    dataset.add("x", regions=["x"])
    plain = verb("show").stdout.split("\n")
    dataset.add(name, regions=[name])
    lines = verb("show").stdout.split("\n")
    assert len(lines) == len(plain)
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ("00000000", "nearest"),
        ("sceond", "nearest"),
        ("no\nsuch", "no\\nsuch"),
        ("019", "ambiguous"),
        ("twice", "ambiguous"),
        ("@last~3", "@last~2"),
        ("@last~x", "@last~2"),
        ("@last~-1", "@last~2"),
        ("@last~²", "@last~2"),
        ("@last\n", "nearest"),
    ],
)
def test_a_run_that_is_not_there_is_one_line_with_those_that_are(
    dataset: Dataset, verb: Callable[..., Completed], wanted: str, words: str
) -> None:
    dataset.add("twice", run_id="01930000-0000-7000-8000-000000000000")
    dataset.add("second", run_id="01930000-0001-7000-8000-000000000000")
    dataset.add("twice", run_id="01940000-0001-7000-8000-000000000000")
    done = verb("show", wanted)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("energyprof: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_the_nearest_runs_are_named(dataset: Dataset, verb: Callable[..., Completed]) -> None:
    right = dataset.add("finetune")
    done = verb("show", right[:12] + "f")
    assert f"{right[:13]} (finetune)" in done.stderr
    assert "finetune" in verb("show", "finetun").stderr


def test_showing_a_run_of_an_empty_dataset_says_how_to_get_one(verb: Callable[..., Completed]) -> None:
    done = verb("show")
    assert done.returncode == 2
    assert "energyprof run" in done.stderr


# --- datasets that are not whole -------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["ls"], ["ls", "--json"], ["show"], ["show", "@last", "--json"]])
@pytest.mark.parametrize("table", ["runs", "channels"])
def test_a_dataset_of_a_newer_release_is_refused_in_one_line(
    dataset: Dataset, verb: Callable[..., Completed], command: list[str], table: str
) -> None:
    newer = dataset.add("x")
    path = dataset.path(table, newer)
    data = pq.read_table(path, partitioning=None)
    pq.write_table(data.replace_schema_metadata({VERSION_KEY: str(VERSION + 1)}), path)
    done = verb(*command)
    if table == "channels" and command[0] == "ls":
        assert done.returncode == 0
        return
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1
    assert "pip install -U energyprof" in done.stderr


def damage(path: str, how: str) -> None:
    """Make a file of a dataset unreadable in one of the ways that happen."""
    whole = Path(path).read_bytes()
    if how == "cut":
        Path(path).write_bytes(whole[: len(whole) // 2])
    elif how == "empty":
        Path(path).write_bytes(b"")
    elif how == "text":
        Path(path).write_bytes(b"not parquet at all\n" * 20)
    elif how == "zeros":
        Path(path).write_bytes(whole[:4] + bytes(len(whole) - 400) + whole[-396:])
    elif how == "link":
        Path(path).unlink()
        Path(path).symlink_to("nowhere")
    elif how == "foreign":
        pq.write_table(pa.table({"other": [1]}), path)
    elif how == "types":
        pq.write_table(pa.table({"run_id": [1], "name": [[2.0]], "started_utc": ["x"]}), path)


@pytest.mark.parametrize("how", ["cut", "empty", "text", "zeros", "link", "foreign", "types"])
def test_a_damaged_file_is_named_and_skipped_and_the_others_are_listed(
    dataset: Dataset, verb: Callable[..., Completed], how: str
) -> None:
    broken = dataset.path("runs", dataset.add("broken"))
    dataset.add("whole")
    damage(broken, how)
    done = verb("ls", "--json")
    assert done.returncode == 0, done.stderr
    assert [row["name"] for row in json.loads(done.stdout)] == ["whole"]
    assert done.stderr.startswith(f"energyprof: warning: skipped {broken}: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("table", ["channels", "intervals"])
def test_a_damaged_part_of_a_run_is_named_when_it_is_shown(
    dataset: Dataset, verb: Callable[..., Completed], table: str
) -> None:
    broken = dataset.path(table, dataset.add("x", regions=["a"]))
    damage(broken, "text")
    done = verb("show")
    assert done.returncode == 0
    assert f"skipped {broken}" in done.stderr
    assert "no meter and no model gave a reading" not in done.stdout


@pytest.mark.parametrize("command", ["ls", "show"])
def test_runs_of_an_older_release_are_listed_without_what_they_lack(
    dataset: Dataset, verb: Callable[..., Completed], command: str
) -> None:
    run_id = dataset.add("old")
    path = dataset.path("runs", run_id)
    names = ["run_id", "node", "name", "status", "started_utc", "duration_s", "energy_j"]
    old = pq.read_table(path, partitioning=None).select(names)
    pq.write_table(old.replace_schema_metadata({VERSION_KEY: b"1"}), path)
    done = verb(command)
    assert done.returncode == 0, done.stderr
    assert "old" in done.stdout


@pytest.mark.parametrize("column", [name for name, _, _ in RUNS if name != "run_id"])
def test_a_run_with_a_null_in_any_column_is_listed_and_shown(
    dataset: Dataset, verb: Callable[..., Completed], column: str
) -> None:
    dataset.add(**{"name": "x", column: None})
    for command in ("ls", "show"):
        done = verb(command)
        assert done.returncode == 0, done.stderr


# --- recover, doctor, wrong use --------------------------------------------------------------------------


def test_recover_says_when_there_is_nothing_and_names_what_cannot_be_sealed(
    dataset: Dataset, verb: Callable[..., Completed]
) -> None:
    done = verb("recover")
    assert (done.returncode, done.stdout) == (0, "nothing to recover\n")
    folder = dataset.out / "_journal/01930000-0000-7000-8000-000000000000.here"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"run_id": ')
    done = verb("recover")
    assert done.returncode == 1
    assert str(folder) in done.stderr
    done = verb("recover", "--json")
    assert json.loads(done.stdout)["failed"][0]["folder"] == str(folder)
    assert verb("ls").returncode == 0


def test_a_run_whose_facts_cannot_be_stored_hides_no_other(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    from energyprof import recovery, runfolder

    def unsealable(folder: str, recovered: bool) -> str:
        raise ArithmeticError("Expected bytes, got a 'int' object")

    monkeypatch.setattr(recovery, "abandoned", lambda folder: True)
    monkeypatch.setattr("energyprof.seal.seal", unsealable)
    monkeypatch.setattr(runfolder, "open_runs", lambda out: ["folder"])
    assert recovery.recover(str(dataset.out)) == (
        [],
        [("folder", "ArithmeticError: Expected bytes, got a 'int' object")],
    )


def test_no_verb_prints_the_help_and_a_missing_choice_is_one_line(energyprof_cli: Runner) -> None:
    done = energyprof_cli()
    assert "Commands:" in done.stdout + done.stderr
    assert "\\n" not in done.stdout + done.stderr
    done = energyprof_cli("completion")
    assert (done.returncode, done.stderr.count("\n"), "\\n" in done.stderr) == (2, 1, False)


def test_doctor_names_what_is_read_and_what_is_not_with_its_remedy(
    energyprof_cli: Runner, hardware: Callable[..., VirtualHardware], tmp_path: Path
) -> None:
    machine = hardware(gpus=1, rapl=("package-0", "dram"))
    done = energyprof_cli("doctor", "--json", env=machine.env)
    report = json.loads(done.stdout)
    assert (done.returncode, done.stderr, report["measures"]) == (0, "", True)
    channels = {c["channel"]: c for c in report["channels"]}
    assert {"gpu:0", "gpu:0/instant", "package:0", "dram:0"} <= set(channels)
    assert channels["gpu:0"]["device"]["model"] == "NVIDIA H100 80GB HBM3"
    assert "measured" in energyprof_cli("doctor", env=machine.env).stdout
    nothing = {**machine.env, "ENERGYPROF_SYS_ROOT": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = energyprof_cli("doctor", "--json", env=nothing)
    report = json.loads(done.stdout)
    assert (done.returncode, report["measures"]) == (1, False)
    assert {m["source"] for m in report["missing"]} == {"nvml", "rapl"}
    assert "by a model" in (text := energyprof_cli("doctor", env=nothing).stdout) or "from a model" in text


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["ls", "--nonsense"],
        ["ls", "extra"],
        ["ls", "-n", "0"],
        ["show", "a", "b"],
        ["--out"],
        ["doctor", "--out", "x"],
    ],
)
def test_wrong_use_is_one_line_and_exit_status_2(
    verb: Callable[..., Completed], arguments: list[str]
) -> None:
    done = verb(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("energyprof: ")
    assert done.stderr.count("\n") == 1


def test_a_verb_that_is_not_there_names_the_nearest(verb: Callable[..., Completed]) -> None:
    assert verb("compar").stderr == "energyprof: no verb 'compar'; did you mean compare?\n"
    assert "--help" in verb("nonsense").stderr


def test_help_of_every_verb_is_on_standard_output(verb: Callable[..., Completed]) -> None:
    assert all(name in verb("--help").stdout for name in cli.VERBS)
    for name in cli.VERBS:
        done = verb(name, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(f"Usage: energyprof {name}")


def test_a_folder_that_is_a_file_or_cannot_be_listed_is_no_traceback(
    verb: Callable[..., Completed], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    assert verb("ls", "--out", str(tmp_path / "file")).returncode in (0, 2)
    done = verb("ls", "--out", str(tmp_path / "new\nline"))
    assert done.stderr.count("\n") == 1


def test_the_schema_of_the_tests_is_the_datasets(dataset: Dataset) -> None:
    path = dataset.path("runs", dataset.add("x"))
    assert pq.read_schema(path).equals(schema("runs"))


# --- rm and completion -----------------------------------------------------------------------------------


def test_rm_deletes_every_file_of_the_runs_that_were_named_and_no_other(
    dataset: Dataset, verb: Callable[..., Completed]
) -> None:
    ids = [dataset.add(name, regions=["a"]) for name in ("first", "second", "third", "fourth")]
    done = verb("rm", "@last", ids[0], "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("deleted ")
    assert [row["run_id"] for row in json.loads(verb("ls", "--json").stdout)] == ids[1:-1]
    left = [path for path in Path(dataset.out).rglob("*") if path.is_file()]
    assert not [path for path in left if path.name.startswith((ids[0], ids[-1]))]


def test_rm_asks_a_person_and_refuses_where_nobody_is_there(
    dataset: Dataset, verb: Callable[..., Completed]
) -> None:
    dataset.add("kept")
    before = verb("ls").stdout
    done = verb("rm", "@last")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert verb("rm", "no-such-run", "--yes").returncode == 2
    dataset.add("it's")
    dataset.add("it's")
    before = verb("ls").stdout
    hint = verb("rm", "it's", "--yes").stderr.partition("for all: ")[2].strip()
    assert shlex.split(hint) == ["--where", "name='it''s'"]
    assert verb("ls").stdout == before


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_of_its_shell(verb: Callable[..., Completed], shell: str) -> None:
    done = verb("completion", shell)
    assert done.returncode == 0
    assert "_ENERGYPROF_COMPLETE" in done.stdout
    assert verb("completion", "tcsh").returncode == 2


def test_verbs_and_runs_are_completed(dataset: Dataset, energyprof_cli: Callable[..., Completed]) -> None:
    run_id = dataset.add("a")
    asked = {"_ENERGYPROF_COMPLETE": "bash_complete", "ENERGYPROF_OUT": str(dataset.out)}
    done = energyprof_cli(env={**asked, "COMP_WORDS": "energyprof do", "COMP_CWORD": "1"})
    assert done.stdout.splitlines() == ["plain,doctor"]
    done = energyprof_cli(env={**asked, "COMP_WORDS": f"energyprof show {run_id[:6]}", "COMP_CWORD": "2"})
    assert done.stdout.splitlines() == [f"plain,{run_id}"]


def test_a_vanished_working_directory_is_named() -> None:
    code = f"""
import os, sys, tempfile
sys.path.insert(0, {str(ROOT)!r})
os.environ.pop("ENERGYPROF_OUT", None)
from energyprof.cli import main
import energyprof.cli.ls
os.chdir(folder := tempfile.mkdtemp())
os.rmdir(folder)
sys.argv = ["energyprof", "ls"]
sys.exit(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "the working directory has vanished" in done.stderr


def test_python_m_energyprof_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "energyprof", "--version"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("energyprof ")
