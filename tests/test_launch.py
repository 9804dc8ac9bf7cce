"""`energyprof run`: the program under it is the program without it, and every way to start or end is kept."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from energyprof.launch.target import TargetError, command_for
from energyprof.result import stored
from tests.lab import VirtualHardware
from tests.shell import RUN, Shell, one_line

# What a program can see of the world it was started in. Only the variable that leads to the meter differs.
WORLD = """
import json, os, sys
main = sys.modules["__main__"]
status = open("/proc/self/status").read().splitlines() if os.path.exists("/proc/self/status") else []
json.dump({
    "argv": sys.argv, "path": sys.path, "name": __name__, "file": getattr(main, "__file__", None),
    "package": main.__package__, "spec": main.__spec__ and main.__spec__.name, "flags": repr(sys.flags),
    "executable": sys.executable, "cwd": os.getcwd(), "group": os.getpgid(0) == os.getpid(),
    # 32 and 33 are the C library's own: posix_spawn and fork leave them differently.
    "signals": {line[:6]: int(line[8:], 16) & ~(3 << 31) for line in status
                if line[:6] in ("SigIgn", "SigBlk", "SigCgt")},
    "files": sorted(os.listdir("/proc/self/fd")) if status else [], "nice": os.nice(0),
    "environment": {k: v for k, v in os.environ.items() if k != "ENERGYPROF_RUN"},
    "modules": sorted(m for m in sys.modules if m.startswith("energyprof")),
}, sys.stdout)
"""


def like_anybody() -> None:
    """In a child before its exec: root without these capabilities is refused like anybody else."""
    libc = ctypes.CDLL(None)
    for capability in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP


# --- what the program sees -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("as_python", "as_run"),
    [
        (["program.py"], ["program.py"]),
        (["./program.py"], ["--", "./program.py"]),
        (["-m", "package.module"], ["-m", "package.module"]),
        (["-m", "package"], ["-m", "package"]),
        (["-c", WORLD], ["-c", WORLD]),
        (["folder"], ["folder"]),
        (["program.pyz"], ["program.pyz"]),
    ],
    ids=["script", "dashes", "module", "package", "code", "folder", "zip"],
)
def test_a_program_sees_the_same_world_as_under_plain_python(
    shell: Shell, as_python: list[str], as_run: list[str]
) -> None:
    shell.file("program.py", WORLD)
    shell.file("package/__init__.py", "")
    shell.file("package/__main__.py", WORLD)
    shell.file("package/module.py", WORLD)
    shell.file("folder/__main__.py", WORLD)
    with zipfile.ZipFile(shell.folder / "program.pyz", "w") as archive:
        archive.writestr("__main__.py", WORLD)
    arguments = ["--out", "mine", "-m", "--json", "", "a b", "--", "-q"]
    plain = shell(sys.executable, *as_python, *arguments)
    run = shell(*RUN, "--quiet", *as_run, *arguments)
    assert run.stderr == plain.stderr == b""
    assert json.loads(run.stdout) == json.loads(plain.stdout)
    assert json.loads(run.stdout)["argv"][1:] == arguments
    assert len(shell.runs()) == 1


def test_signals_that_came_ignored_stay_ignored(shell: Shell) -> None:
    shell.file("program.py", WORLD)
    ignoring = ["sh", "-c", 'trap "" INT HUP TERM USR1; exec "$@"', "sh"]
    plain = shell(*ignoring, sys.executable, "program.py")
    run = shell(*ignoring, *RUN, "-q", "program.py")
    assert json.loads(run.stdout)["signals"] == json.loads(plain.stdout)["signals"]


def test_any_command_on_the_path_can_be_run(shell: Shell) -> None:
    done = shell(*RUN, "-q", "sh", "-c", 'printf "%s|" "$0" "$@"; exit 3', "zero", "--out", "-q")
    assert (done.stdout, done.returncode) == (b"zero|--out|-q|", 3)
    assert shell.runs()[0]["name"] == "sh"


def test_a_folder_that_happens_to_be_called_like_a_command_does_not_hide_it(shell: Shell) -> None:
    (shell.folder / "sh").mkdir()
    done = shell(*RUN, "-q", "sh", "-c", "echo ran")
    assert (done.stdout, done.returncode) == (b"ran\n", 0), done.stderr


def test_standard_input_and_output_pass_through_byte_for_byte(shell: Shell) -> None:
    everything = bytes(range(256)) * 300
    copy = "import shutil, sys; shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"
    done = shell(*RUN, "-c", copy, input=everything, stdin=None)
    assert done.stdout == everything
    assert done.stderr.startswith(b"energyprof: -c: finished")


def test_spawned_workers_and_pickles_find_main(shell: Shell) -> None:
    shell.file(
        "program.py",
        "import multiprocessing\nclass Mine:\n    pass\ndef work(x):\n    return Mine()\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(type(pool.map(work, [1])[0]) is Mine)\n",
    )
    done = shell(*RUN, "-q", "program.py")
    assert (done.stdout, done.stderr) == (b"True\n", b"")


def test_a_profile_inside_the_program_is_a_region_of_the_run(shell: Shell) -> None:
    code = """
import energyprof, time
with energyprof.profile("inner") as run:
    for _ in run.steps(range(2)):
        with run.region("deep"):
            time.sleep(0.2)
"""
    done = shell(*RUN, "--name", "outer", "--tag", "a=b=c", "--country", "FRA", "-c", code)
    assert done.returncode == 0, done.stderr
    (run,) = shell.runs()
    assert (run["name"], run["tags"], run["intensity_place"]) == ("outer", '{"a": "b=c"}', "FRA")
    assert run["steps"] == 2
    regions = stored(str(shell.out), run["run_id"]).regions
    assert {"inner", "inner/deep"} == set(regions["region"])


def test_a_profile_inside_says_once_what_the_run_around_it_has_not(shell: Shell) -> None:
    code = """
import energyprof

@energyprof.profile(country="FRA", tags={"a": "b"})
def work():
    pass

work()
work()
with energyprof.profile(price=0.3, quiet=True):
    pass
"""
    done = shell(*RUN, "--quiet", "-c", code)
    said = b"energyprof: warning: this profile is a region of the run around it: of country, tags counts"
    assert done.stderr.startswith(said)
    assert done.stderr.count(b"\n") == 1
    assert shell.runs()[0]["intensity_place"] == "WORLD"


def test_several_profiles_of_one_program_keep_their_own_time_under_a_run(shell: Shell) -> None:
    code = """
import energyprof, time

@energyprof.profile
def work(seconds):
    with energyprof.region("z"):
        time.sleep(seconds)

with energyprof.region("before"):
    time.sleep(0.1)
with energyprof.profile("a") as run:
    with run.region("x"):
        time.sleep(0.4)
with energyprof.profile("b") as run:
    with run.region("y"):
        time.sleep(0.2)
with energyprof.region("after"):
    time.sleep(0.1)
work(0.1)
work(0.2)
"""
    done = shell(*RUN, "-q", "-c", code)
    assert (done.returncode, done.stderr) == (0, b"")
    regions = stored(str(shell.out), shell.runs()[0]["run_id"]).regions.query("channel == 'total'")
    found = dict(zip(regions["region"], zip(regions["calls"], regions["duration_s"])))
    expected = {
        "before": (1, 0.1), "a": (1, 0.4), "a/x": (1, 0.4), "b": (1, 0.2), "b/y": (1, 0.2), "after": (1, 0.1),
        "work": (2, 0.3), "work/z": (2, 0.3),
    }  # fmt: skip
    assert set(found) == set(expected)
    for region, (calls, seconds) in expected.items():
        assert found[region][0] == calls
        assert found[region][1] >= seconds - 0.01
    assert found["b"][1] < found["a"][1]


# --- what is said ----------------------------------------------------------------------------------------


def test_the_summary_is_at_most_twelve_lines_on_stderr(shell: Shell) -> None:
    code = """
import energyprof, time
with energyprof.profile("x") as run:
    run.count(samples=3, tokens=9)
    for _ in run.steps(range(3)):
        with run.region("a"):
            time.sleep(0.15)
        with run.region("b"):
            time.sleep(0.15)
"""
    done = shell(*RUN, "-c", code)
    lines = done.stderr.decode().splitlines()
    assert done.stdout == b""
    assert len(lines) <= 12
    assert lines[0].startswith("energyprof: -c: finished in ")
    labels = [line.split()[0] for line in lines[1:]]
    for label in ("energy", "measured", "modelled", "CO2e", "work", "where", "next"):
        assert label in labels
    assert lines[-1].split()[-1] in shell.runs()[0]["run_id"]


def test_quiet_says_nothing_and_json_one_object(shell: Shell) -> None:
    assert shell(*RUN, "--quiet", "-c", "print(1)").stderr == b""
    assert json.loads(shell(*RUN, "--quiet", "--json", "-c", "print(1)").stderr)["exit_code"] == 0
    done = shell(*RUN, "--json", "-c", "print(1)")
    row = json.loads(done.stderr)
    assert done.stdout == b"1\n"
    assert (row["name"], row["exit_code"]) == ("-c", 0)
    assert row["run_id"] == shell.runs()[-1]["run_id"]


def test_without_a_standard_error_nothing_is_written_to_the_programs_output(shell: Shell) -> None:
    done = shell("sh", "-c", 'exec "$@" 2>&-', "sh", *RUN, "-c", "print(1); raise SystemExit(3)")
    assert (done.stdout, done.returncode) == (b"1\n", 3)


@pytest.mark.parametrize("kind", ["closed pipe", "full disk"])
def test_the_exit_code_does_not_depend_on_whether_the_summary_could_be_written(
    shell: Shell, kind: str
) -> None:
    if kind == "full disk":
        stderr = os.open("/dev/full", os.O_WRONLY)
    else:
        reader, stderr = os.pipe()
        os.close(reader)
    done = shell(
        *RUN, "-c", "raise SystemExit(3)", capture_output=False, stdout=subprocess.PIPE, stderr=stderr
    )
    os.close(stderr)
    assert done.returncode == 3
    assert len(shell.runs()) == 1


# --- what stops us before the program starts -------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "nothing to run"),
        (["-m"], 2, "nothing to run"),
        (["--", "--"], 127, "--"),
        (["no_such_script.py"], 127, "no script no_such_script.py"),
        (["no-such-command"], 127, "no-such-command"),
        (["./plain"], 126, "chmod +x"),
        (["empty"], 126, "__main__.py"),
        (["-m", "-c", "x"], 2, "exclude"),
        (["--no-such-option", "x"], 2, "--no-such-option"),
        (["--tag", "nothing", "program.py"], 2, "KEY=VALUE"),
        (["--country", "FRANCX", "program.py"], 2, "FRA"),
        (["--country", "", "program.py"], 2, ""),
        (["--intensity", "-1", "program.py"], 2, "intensity"),
        (["--intensity", "nan", "program.py"], 2, "intensity"),
        (["--intensity", "much", "program.py"], 2, "intensity"),
        (["--country", "FRA", "--intensity", "5", "program.py"], 2, "choose one"),
        (["--out", "plain", "program.py"], 2, "--out"),
        (["--out", "plain/below", "program.py"], 2, "--out"),
        (["--out", "/proc/nowhere", "program.py"], 2, "--out"),
        (["a\nb.py"], 127, "b.py"),
        (["a\nb"], 127, "b"),
        (["--out", "/proc/a\nb", "program.py"], 2, "--out"),
        (["--tag", "a\nb", "program.py"], 2, "KEY=VALUE"),
    ],
)
def test_wrong_use_is_one_line_before_anything_starts(
    shell: Shell, arguments: list[str], code: int, words: str
) -> None:
    shell.file("program.py", "open('started', 'w')")
    shell.file("plain", "text")
    (shell.folder / "empty").mkdir()
    done = shell(*RUN, *arguments)
    assert done.returncode == code, done.stderr
    assert words in one_line(done)
    assert done.stdout == b""
    assert not (shell.folder / "started").exists()
    assert not shell.out.exists()


def test_a_dataset_or_a_script_without_permission_stops_us_before_the_program_starts(shell: Shell) -> None:
    shell.file("program.py", "open('started', 'w')")
    shell.file("secret.py", "", 0)
    shell.out.mkdir(mode=0o555)
    done = shell(*RUN, "program.py", preexec_fn=like_anybody)
    assert done.returncode == 2
    assert f"cannot write to {shell.out}" in one_line(done)
    done = shell(*RUN, "secret.py", preexec_fn=like_anybody)
    assert done.returncode == 126
    assert "permissions" in one_line(done)
    assert not (shell.folder / "started").exists()


def test_a_working_folder_that_has_vanished_does_not_stop_the_program(shell: Shell, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    done = shell("sh", "-c", f'cd {gone} && rmdir {gone} && exec "$@"', "sh", *RUN, "-q", "-c", "print(1)")
    assert (done.stdout, done.returncode) == (b"1\n", 0), done.stderr


def test_targets_become_the_commands_that_a_shell_would_have_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").touch()
    assert command_for(["script.py", "-x"]) == [sys.executable, "script.py", "-x"]
    assert command_for(["pkg", "-x"], module=True) == [sys.executable, "-m", "pkg", "-x"]
    assert command_for(["1", "-x"], code=True) == [sys.executable, "-c", "1", "-x"]
    assert command_for(["sh", "-x"]) == ["sh", "-x"]
    with pytest.raises(TargetError, match="no script") as missing:
        command_for(["other.py"])
    assert missing.value.code == 127


# --- and it measures -------------------------------------------------------------------------------------


def test_a_program_run_by_us_is_measured_as_exactly_as_a_profile(
    shell: Shell, hardware: Callable[..., VirtualHardware]
) -> None:
    machine = hardware(gpus=1, rapl=("package-0", "dram"), idle_w=240.0)
    shell.environment |= machine.env
    done = shell(*RUN, "-c", "import time; time.sleep(1.5)")
    (run,) = shell.runs()
    figures = {c["channel"]: c for c in stored(str(shell.out), run["run_id"]).rows()[1]}
    assert sorted(figures) == ["dram:0", "gpu:0", "package:0"]
    for channel, limit in (("gpu:0", 0.02), ("package:0", 0.005), ("dram:0", 0.005)):
        truth = machine.truth.energy_j(channel, run["t0_ns"], run["t1_ns"])
        assert figures[channel]["energy_j"] == pytest.approx(truth, rel=limit)
        assert figures[channel]["method"] == "counter"
    assert run["modelled_j"] == 0
    assert b"measured  gpu:0" in done.stderr or b"measured  package:0" in done.stderr


def test_what_went_missing_while_a_program_ran_is_told_when_its_run_is_sealed(shell: Shell) -> None:
    shell.file("prices.csv", "time,price\n2020-01-01T00:00Z,0.2\n2099-01-01T00:00Z,0.2\n")
    gone = "import os; os.unlink('prices.csv')"
    done = shell(*RUN, "--country", "FRA", "--price", "prices.csv EUR", "-c", gone)
    lines = done.stderr.decode().splitlines()
    told = [line for line in lines if "cannot read prices.csv" in line]
    gone = "cannot read prices.csv: No such file or directory"
    assert told[0] == f"energyprof: warning: {gone}; price is left out"
    assert all(line == f"  and       — money (left out: {gone})" for line in told[1:])  # where it had joules
    assert any("(FRA 2023)" in line for line in lines)
