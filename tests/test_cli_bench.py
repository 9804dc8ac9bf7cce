"""`energyprof bench` as it is typed: what it prints, its exit status, and what makes no sense."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from energyprof import runfolder
from energyprof.cli import main
from energyprof.launch import bench as benches
from energyprof.launch import plan as plans
from tests.conftest import ROOT, Runner

TRUE = f"{sys.executable} -c pass"
WORK = f"{sys.executable} -c 'print(sum(range(8_000_000)))'"
CLI = [sys.executable, "-c", "import sys; from energyprof.cli import main; sys.exit(main())", "bench"]
Out = Path


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Out:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "nothing to run"),
        (("", TRUE), "a command is empty"),
        (("'open",), "no closing quotation"),
        (("-n", "1", TRUE, TRUE), "two runs at least"),
        (("-n", "0", TRUE), "-n 0"),
        (("--warmup", "-1", TRUE), "--warmup -1"),
        (("--cool", "-1", TRUE), "--cool -1"),
        (("--cool", "nan", TRUE), "--cool nan"),
        (("--failures", "0", TRUE), "--failures 0"),
        (("--until", "5", TRUE), "--until"),
        (("--until", "0%", TRUE), "--until 0 %"),
        (("--budget", "soon", TRUE), "write 30min"),
        (("--budget", "0", TRUE), "no time above zero"),
        (("--label", "x", TRUE, TRUE), "1 labels for 2 commands"),
        (("--label", "x", "--label", "x", TRUE, TRUE), "labels must differ"),
        (("--resume", "zzz"), "no bench zzz"),
        (("--resume", "zzz", TRUE), "leave them out"),
        (("--fail-if", "energy>+5%", TRUE), "takes two commands"),
        (("--fail-if", "energy", TRUE, TRUE), "is no limit"),
        (("--fail-if", "joules>5%", TRUE, TRUE), "unknown metric 'joules'; known: energy, "),
        (("--resume", "zzz", "--fresh"), "leave one of them out"),
        (("--label", "x", "--label", " x", TRUE, TRUE), "labels must differ"),
        (("--country", "XXX", TRUE), "no place"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_status_2(
    cli_here: Runner, out: Out, arguments: tuple[str, ...], why: str
) -> None:
    said = cli_here("bench", *arguments)
    assert (said.returncode, said.stdout, said.stderr.count("\n")) == (2, "", 1)
    assert why in said.stderr
    assert not out.exists()


@pytest.mark.parametrize("missing", ["no-such-command", f"{sys.executable} nosuch.py"])
def test_a_command_not_found_is_status_127(cli_here: Runner, out: Out, missing: str) -> None:
    said = cli_here("bench", missing, TRUE)
    assert (said.returncode, said.stderr.count("\n")) == (127, 1)


def test_commands_are_run_measured_and_compared(cli_here: Runner, out: Out) -> None:
    said = cli_here(
        "bench", "-n", "2", "--warmup", "0", "--cool", "0", "--seed", "1", "--json", "--label", "less",
        "--label", "more", "--fail-if", "duration>+1000%", WORK, WORK.replace("8_000", "16_000"),
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    told = json.loads(said.stdout)
    assert [arm["label"] for arm in told["bench"]["arms"]] == ["less", "more"]
    assert [len(arm["runs"]) for arm in told["bench"]["arms"]] == [2, 2]
    assert [group["n"] for group in told["comparison"]["groups"]] == [2, 2]
    less, more = (arm["mean_duration_s"]["mean"] for arm in told["bench"]["arms"])
    assert 0 < less < more
    assert "round 2/2" in said.stderr
    assert f"compared={told['bench']['id']}/less" not in said.stdout


def test_what_a_failing_program_says_last_is_shown_and_all_of_it_kept(
    out: Out, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = f"""{sys.executable} -c 'import sys; print("out loud"); sys.exit("first\\nboom")'"""
    options = ["--failures", "1", "--cool", "0", "--warmup", "0", "--label", "x", "-o", str(out)]
    monkeypatch.setattr(sys, "argv", ["energyprof", "bench", *options, command])
    assert main() == 1
    said = capfd.readouterr()
    assert said.out == ""
    assert "failed: exit status 1" in said.err
    assert "\n  boom\n" in said.err
    kept = said.err.partition("all it said: ")[2].splitlines()[0]
    assert Path(kept).read_text().endswith("first\nboom\n")


def test_a_limit_on_a_quality_that_no_run_logged_costs_nothing_of_the_comparison(
    cli_here: Runner, out: Out
) -> None:
    said = cli_here(
        "bench", "-n", "2", "--warmup", "0", "--cool", "0", "--label", "x", "--label", "y", "-o", str(out),
        "--fail-if", "quality:f1<0%", WORK, WORK,
    )  # fmt: skip
    assert said.returncode == 2
    assert "what differs besides:" in said.stdout
    assert said.stderr.splitlines()[-1].startswith("energyprof: quality:f1<0%: no run logged that")
    assert f"/y --out {out}" in said.stderr


def test_a_bench_that_stops_says_so_in_json_too_and_how_to_go_on_from_where(
    cli_here: Runner, out: Out
) -> None:
    command = f"{sys.executable} -c 'raise SystemExit(3)'"
    options = ["--failures", "1", "--cool", "0", "--warmup", "0", "-o", str(out), "--json"]
    said = cli_here("bench", *options, command)
    told = json.loads(said.stdout)
    assert (said.returncode, told["bench"]["state"], told["comparison"]) == (1, benches.FAILURES, None)
    assert f"--resume {told['bench']['id']} --out {out}`" in said.stderr


def test_interrupted_at_the_keyboard_it_says_how_to_go_on(out: Out) -> None:
    program = "import signal, time; signal.signal(2, signal.SIG_DFL); print(1, flush=True); time.sleep(60)"
    command = [
        *CLI,
        "--show",
        "--warmup",
        "0",
        "--cool",
        "0",
        "-o",
        str(out),
        f"{sys.executable} -c '{program}'",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        _wait_for(lambda: any(len(os.listdir(f)) > 1 for f in runfolder.open_runs(str(out))))
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGINT)
        printed, said = process.communicate(timeout=30)
    assert printed == "1\n"
    assert process.returncode == 130
    last = said.splitlines()[-1]
    assert last.startswith("energyprof: interrupted: 0 of 10 runs are kept; `energyprof bench --resume")
    assert "Traceback" not in said
    (bench_id,) = plans.known(str(out))
    assert plans.load(str(out), bench_id)[1] == plans.INTERRUPTED


def _wait_for(there: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not there():
        assert time.monotonic() < until
        time.sleep(0.05)
