"""Which programs get device times: those that have initialised CUDA by themselves, as they asked for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import energyprof
from energyprof import settings
from tests.conftest import ROOT, Runner
from tests.test_accuracy import Machine

# A torch of which only CUDA is there, and that must not be touched before the program has begun with it.
TORCH = f"""
import sys, time, types
sys.path.insert(0, {str(ROOT)!r})
from tests.virtual_cuda import VirtualCuda

virtual = VirtualCuda(uuid="0000abc0-1111-2222-3333-000000000000")
begun = False

def first(call):
    def checked(*arguments, **options):
        assert begun, "CUDA was touched before the program did"
        return call(*arguments, **options)
    return checked

cuda = types.SimpleNamespace(
    is_initialized=lambda: begun,
    is_current_stream_capturing=first(virtual.capturing),
    current_stream=first(virtual.current_stream),
    synchronize=first(virtual.synchronize),
    Stream=first(lambda device, priority: virtual.new_stream(device)),
    Event=first(lambda enable_timing: virtual.new_event()),
    get_device_properties=first(lambda device: types.SimpleNamespace(uuid=virtual.uuid(device))),
)
torch = types.ModuleType("torch")
torch.cuda, torch.version = cuda, types.SimpleNamespace(cuda="12.8")
sys.modules["torch"] = torch
import energyprof
"""
PROGRAM = (
    TORCH
    + """
with energyprof.profile("x", quiet=True) as run:
    with run.region("before"):
        time.sleep(0.05)
    begun = True
    for _ in range(3):
        with run.region("work"):
            virtual.stream.launch(0.5)
    kinds = type(run.region("kind")).__name__
print(kinds, virtual.waits)
run.result
"""
)


def regions(out: Path) -> dict[tuple[str, str], float | None]:
    result = energyprof.load(out)
    rows = energyprof.result.stored(str(out), result["run_id"].iloc[-1]).rows()[2]
    return {(row["region"], row["channel"]): row["energy_j"] for row in rows}


def test_events_begin_when_the_program_has_begun_with_cuda(
    hardware: Machine, run_python: Runner, tmp_path: Path
) -> None:
    machine = hardware(gpus=1, idle_w=200.0)
    done = run_python(PROGRAM, env=machine.env)
    assert (done.stdout, done.stderr) == ("DeviceRegion 0\n", "")
    row = energyprof.load(tmp_path / "runs").iloc[-1]
    assert row["duration_s"] > 1.5  # it waited for what was queued
    assert not {"device_times", "device_clock"} & set(row["flags"].split(","))
    energy = regions(tmp_path / "runs")["work", "gpu:0"]
    assert energy == pytest.approx(300, rel=0.05)


@pytest.mark.parametrize(
    ("env", "argument", "said"),
    [
        ({"ENERGYPROF_CUDA": "off"}, "", "Region 0"),
        ({"ENERGYPROF_CUDA": "sync"}, "", "WaitingRegion 7"),
        ({"ENERGYPROF_CUDA": "off"}, ', cuda="sync"', "WaitingRegion 7"),
        ({}, ', cuda="off"', "Region 0"),
        ({"ENERGYPROF_CUDA": "nonsense"}, "", "DeviceRegion 0"),
    ],
)
def test_a_program_says_how_its_regions_are_timed(
    run_python: Runner, env: dict[str, str], argument: str, said: str
) -> None:
    done = run_python(PROGRAM.replace("quiet=True", "quiet=True" + argument).replace("0.5", "0.01"), env=env)
    assert done.stdout == said + "\n"


def test_under_run_the_command_line_says_it(
    run_python: Runner, energyprof_cli: Runner, tmp_path: Path
) -> None:
    text = PROGRAM.replace("run.result\n", "").replace("0.5", "0.01")
    (tmp_path / "work").mkdir(exist_ok=True)
    (tmp_path / "work" / "program.py").write_text(text)
    assert energyprof_cli("run", "--cuda", "sync", "program.py").stdout == "WaitingRegion 6\n"
    assert energyprof_cli("run", "program.py").stdout == "DeviceRegion 0\n"
    assert energyprof_cli("run", "--cuda", "never", "program.py").returncode == 2


def test_marks_of_a_joined_program_are_whole_at_its_exit(energyprof_cli: Runner, tmp_path: Path) -> None:
    text = (
        TORCH + "begun = True\nfor _ in range(3):\n with energyprof.region('a'): virtual.stream.launch(0.1)\n"
    )
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "program.py").write_text(text)
    done = energyprof_cli("run", "--json", "program.py")
    assert json.loads(done.stderr)["duration_s"] > 0.3


def test_a_torch_that_we_do_not_know_costs_device_times_alone(run_python: Runner, tmp_path: Path) -> None:
    text = PROGRAM.replace("is_current_stream_capturing=", "other=").replace("0.5", "0.01")
    done = run_python(text)
    assert (done.stdout, done.stderr) == ("Region 0\n", "")
    assert "device_times" in energyprof.load(tmp_path / "runs").iloc[-1]["flags"]


def test_a_torch_without_cuda_is_not_asked_again(run_python: Runner) -> None:
    text = TORCH.replace('cuda="12.8"', "cuda=None") + (
        "with energyprof.profile(quiet=True) as run:\n    run.region('r')\n"
        "    print(run._session.recorder.look)\nrun.result\n"
    )
    assert run_python(text).stdout == "None\n"


def test_an_unknown_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="say events, sync or off"):
        energyprof.profile(cuda="never")
    monkeypatch.setenv("ENERGYPROF_CUDA", "sync")
    assert settings.cuda_mode() == "sync"
    assert settings.cuda_mode("off") == "off"
