"""`energyprof run`: however a program ends, its record is whole and its exit status is given back."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from time import sleep

import pytest

from energyprof import runfolder
from energyprof.result import stored
from tests.shell import RUN, Shell, one_line


@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_given_back(shell: Shell, code: int) -> None:
    done = shell(*RUN, "-c", f"raise SystemExit({code})")
    assert done.returncode == code
    (run,) = shell.runs()
    assert (run["status"], run["exit_code"]) == ("failed" if code else "finished", code)
    assert runfolder.open_runs(str(shell.out)) == []
    assert not (shell.out / "_journal").exists()


@pytest.mark.parametrize("name", ["SIGKILL", "SIGSEGV", "SIGTERM", "SIGINT"])
def test_a_program_that_a_signal_ends_leaves_a_whole_run_and_we_die_by_the_same_signal(
    shell: Shell, name: str
) -> None:
    number = getattr(signal, name)
    code = f"import os, signal, time; signal.signal({number}, signal.SIG_DFL)" if name == "SIGINT" else ""
    done = shell(*RUN, "-c", f"{code}\nimport os, time\ntime.sleep(0.3)\nos.kill(os.getpid(), {number})")
    assert done.returncode == -number
    assert b"killed in" in done.stderr
    assert f"({name})".encode() in done.stderr
    (run,) = shell.runs()
    assert (run["status"], run["exit_code"]) == ("killed", -number)
    assert run["duration_s"] >= 0.3
    assert run["energy_j"] > 0
    assert runfolder.open_runs(str(shell.out)) == []


def test_an_interrupt_from_the_keyboard_is_the_programs_to_answer(shell: Shell) -> None:
    code = """
import signal, sys, time
def answer(*_):
    time.sleep(0.6)
    print("saved")
    sys.exit(5)
signal.signal(signal.SIGINT, answer)
print("ready", flush=True)
time.sleep(60)
"""
    process = shell.start(*RUN, "-c", code)
    os.killpg(process.pid, signal.SIGINT)
    out, text = process.communicate(timeout=60)
    assert (out, process.returncode) == ("saved\n", 5)
    assert "failed in" in text
    assert "(exit status 5)" in text
    assert shell.runs()[0]["exit_code"] == 5


def test_an_interrupt_that_ends_the_program_ends_us_after_the_summary(shell: Shell) -> None:
    process = shell.start(*RUN, "-c", "import time; print('ready', flush=True); time.sleep(60)")
    os.killpg(process.pid, signal.SIGINT)
    _, text = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGINT
    assert text.count("Traceback") == 1  # the program's own
    assert "energyprof: -c: killed in" in text


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_a_signal_that_comes_to_us_alone_is_handed_on(shell: Shell, name: str) -> None:
    code = f"""
import signal, sys, time
signal.signal(signal.{name}, lambda *_: sys.exit(7))
print("ready", flush=True)
time.sleep(60)
"""
    process = shell.start(*RUN, "-q", "-c", code)
    process.send_signal(getattr(signal, name))
    assert process.wait(60) == 7


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"])
def test_a_signal_that_comes_to_the_whole_group_reaches_the_program_once(shell: Shell, name: str) -> None:
    code = f"""
import signal, sys, time
seen = []
signal.signal(signal.{name}, lambda *_: seen.append(1))
print("ready", flush=True)
until = time.monotonic() + 1.5
while time.monotonic() < until:
    time.sleep(0.05)
print(len(seen))
"""
    process = shell.start(*RUN, "-q", "-c", code)
    os.killpg(process.pid, getattr(signal, name))
    sleep(0.5)
    process.send_signal(getattr(signal, name))  # and one more to us alone
    out, said = process.communicate(timeout=60)
    assert (out, said, process.returncode) == ("2\n", "", 0)


FAULTY = """
import sys
from energyprof.folding import Folding
def look(self, now_ns):
    raise BlockingIOError(11, "no more processes")
Folding.look = look
from energyprof.cli import main
sys.exit(main())
"""


def test_a_fault_of_ours_costs_readings_and_neither_the_program_nor_its_exit_code(shell: Shell) -> None:
    shell.file("faulty.py", FAULTY)
    code = "import time; time.sleep(0.5); print('done'); raise SystemExit(3)"
    done = shell(sys.executable, "faulty.py", "run", "-q", "-c", code)
    assert (done.stdout, done.returncode) == (b"done\n", 3)
    assert "the metering ended early: BlockingIOError" in one_line(done)
    (run,) = shell.runs()
    assert (run["exit_code"], run["status"]) == (3, "failed")


def test_a_signal_that_comes_while_the_program_is_being_started_is_handed_on(shell: Shell) -> None:
    slow = """
import os, signal, sys
from energyprof.launch import supervise
start = supervise._Supervisor._start
def late(self, command):
    os.kill(os.getpid(), signal.SIGTERM)
    return start(self, command)
supervise._Supervisor._start = late
from energyprof.cli import main
sys.exit(main())
"""
    shell.file("slow.py", slow)
    done = shell(sys.executable, "slow.py", "run", "-q", "-c", "import time; time.sleep(60)")
    assert done.returncode == -signal.SIGTERM


def test_as_the_first_process_of_a_container_we_reap_orphans_and_end_with_128_and_the_signal(
    shell: Shell,
) -> None:
    apart = ("unshare", "--pid", "--fork", "--mount-proc")
    if shutil.which("unshare") is None or shell(*apart, "true").returncode != 0:
        pytest.skip("this machine lets us make no PID namespace")
    code = """
import glob, os, signal, time
for _ in range(20):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.2)
        os._exit(0)
    os.wait()
time.sleep(1.0)
states = [open(path).read().rpartition(")")[2].split() for path in glob.glob("/proc/[0-9]*/stat")]
print(os.getppid(), sum(state[:2] == ["Z", "1"] for state in states), flush=True)
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = shell(*apart, *RUN, "-c", code)
    assert (done.stdout, done.returncode) == (b"1 0\n", 128 + signal.SIGTERM), done.stderr
    assert shell.runs()[0]["status"] == "killed"


def test_nobody_who_reads_our_output_waits_for_a_process_of_ours(shell: Shell) -> None:
    code = " ".join(f"'{part}'" for part in (*RUN, "-q", "-c", "print(1)"))
    done = shell("bash", "-c", f"{code} | cat; echo ${{PIPESTATUS[0]}}")
    assert done.stdout == b"1\n0\n"


def test_a_stop_from_the_keyboard_stops_program_and_us_and_a_continue_lets_both_go_on(shell: Shell) -> None:
    code = """
import signal, sys, time
signal.signal(signal.SIGCONT, lambda *_: print("continued", flush=True))
print("ready", flush=True)
until = time.monotonic() + 1.2
while time.monotonic() < until:
    time.sleep(0.02)
"""
    # As a shell's job: a group of its own in our session. One that is alone in its session cannot be stopped so.
    process = subprocess.Popen(
        [*RUN, "-q", "-c", code], cwd=shell.folder, env=shell.environment, text=True,
        stdout=subprocess.PIPE, preexec_fn=os.setpgrp,  # noqa: PLW1509  # `process_group` is Python 3.11's
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    os.killpg(process.pid, signal.SIGTSTP)  # ^Z in a terminal
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    sleep(0.3)
    os.killpg(process.pid, signal.SIGCONT)  # fg
    assert process.communicate(timeout=60)[0] == "continued\n"
    assert process.returncode == 0
    assert shell.runs()[0]["status"] == "finished"


def test_a_stopped_program_stops_us_and_goes_on_with_us(shell: Shell) -> None:
    code = """
import os, signal
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
print("went on")
"""
    process = shell.start(*RUN, "-q", "-c", code)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    assert os.WIFSTOPPED(status)
    os.kill(process.pid, signal.SIGCONT)
    assert process.communicate(timeout=60)[0] == "went on\n"
    assert process.returncode == 0


def test_a_stopped_program_that_is_let_go_on_alone_takes_us_along(shell: Shell) -> None:
    code = """
import os, time
print("ready", flush=True)
print(os.getpid(), flush=True)
until = time.monotonic() + 2.0
while time.monotonic() < until:
    time.sleep(0.05)
print("went on")
"""
    process = shell.start(*RUN, "-q", "-c", code)
    assert process.stdout is not None
    program = int(process.stdout.readline())
    os.kill(program, signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(process.pid, os.WUNTRACED)[1])
    os.kill(program, signal.SIGCONT)
    assert os.WIFCONTINUED(os.waitpid(process.pid, os.WCONTINUED)[1])
    assert process.communicate(timeout=60)[0] == "went on\n"
    assert process.returncode == 0


def test_a_job_that_is_stopped_and_let_go_on_in_quick_turns_comes_to_its_end(shell: Shell) -> None:
    code = """
import time
print("ready", flush=True)
for _ in range(30):
    time.sleep(0.02)
print("went on")
"""
    process = shell.start(*RUN, "-q", "-c", code)
    for number in (signal.SIGTSTP, signal.SIGSTOP) * 4:
        os.killpg(process.pid, number)
        sleep(0.005)
        os.killpg(process.pid, signal.SIGCONT)
        sleep(0.02)
    assert process.communicate(timeout=60)[0] == "went on\n"
    assert process.returncode == 0


# --- a run inside a run ----------------------------------------------------------------------------------


def test_a_run_inside_a_run_passes_through(shell: Shell) -> None:
    done = shell(*RUN, "-q", *RUN, "--name", "inner", "-c", "import sys; print(sys.argv); sys.exit(4)", "x")
    assert (done.stdout, done.stderr, done.returncode) == (b"['-c', 'x']\n", b"", 4)
    assert len(shell.runs()) == 1


def test_a_program_two_runs_deep_has_its_time_to_answer_an_interrupt(shell: Shell) -> None:
    code = """
import signal, sys, time
def answer(*_):
    time.sleep(0.8)
    print("saved")
    sys.exit(5)
signal.signal(signal.SIGINT, answer)
print("ready", flush=True)
time.sleep(60)
"""
    process = shell.start(*RUN, "-q", *RUN, "-c", code)
    os.killpg(process.pid, signal.SIGINT)
    out, text = process.communicate(timeout=60)
    assert (out, text, process.returncode) == ("saved\n", "", 5)


def test_a_signal_reaches_a_program_two_runs_deep(shell: Shell) -> None:
    code = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("ready", flush=True)
time.sleep(3)
"""
    process = shell.start(*RUN, "-q", *RUN, "-c", code)
    process.terminate()
    assert process.wait(60) == 7


def test_a_file_that_the_kernel_cannot_start_is_126_also_inside_a_run(shell: Shell) -> None:
    shell.file("program", "no interpreter line\n", 0o755)
    done = shell(*RUN, "./program")
    assert done.returncode == 126
    assert "Exec format error" in one_line(done)
    done = shell(*RUN, "-q", *RUN, "./program")
    assert done.returncode == 126
    assert "write" not in one_line(done)


def test_a_program_that_replaces_itself_keeps_the_regions_of_both_lives(shell: Shell) -> None:
    shell.file("second.py", "import energyprof\nwith energyprof.region('b'): pass\n")
    first = (
        "import energyprof, os, sys\nwith energyprof.region('a'): pass\n"
        "os.execv(sys.executable, [sys.executable, 'second.py'])"
    )
    assert shell(*RUN, "-q", "-c", first).returncode == 0
    regions = stored(str(shell.out), shell.runs()[0]["run_id"]).regions
    assert set(regions["region"]) == {"a", "b"}


@pytest.mark.parametrize("kib", [1, 2, 4])
def test_a_disk_that_fills_up_costs_the_run_and_not_the_program(shell: Shell, kib: int) -> None:
    """A limit on file sizes stands in for a full disk: every write of ours beyond it fails."""
    limited = ["bash", "-c", f'ulimit -f {kib}; exec "$@"', "bash"]
    done = shell(*limited, *RUN, "-c", "print(1, flush=True); raise SystemExit(3)")
    if done.stdout:  # it was started: then its end is ours
        assert (done.stdout, done.returncode) == (b"1\n", 3), done.stderr
        assert b"warning" in done.stderr
    else:
        assert done.returncode == 2
    assert one_line(done)


def test_the_exit_status_is_given_back_where_nothing_can_be_started_to_seal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from energyprof.launch import measure

    def no_more(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(measure.subprocess, "Popen", no_more)
    measured = measure._sealed(7, "folder", print)
    assert measured.code == 7
    assert "Resource temporarily unavailable" in (measured.problem or "")
