"""EnergyCallback in the real Trainer of transformers: tiny random models, a program for each test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

import energyprof
from energyprof.result import stored
from tests.conftest import Runner
from tests.documented import examples
from tests.test_profiler import settled
from tests.together import Said, together

# Looked for, not imported: what a framework warns of at import is no fault of ours.
pytestmark = [
    pytest.mark.skipif(
        find_spec("transformers") is None or find_spec("accelerate") is None,
        reason="needs energyprof[transformers]",
    ),
    pytest.mark.timeout(300),
]

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error", "CUDA_VISIBLE_DEVICES": ""}
TRAINER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback
import energyprof
from energyprof.integrations.transformers import EnergyCallback

def trainer(*callbacks, **options):
    set_seed(7)
    shape = dict(vocab_size=32, n_positions=8, n_embd=8, n_layer=1, n_head=1, bos_token_id=0, eos_token_id=0)
    model = GPT2LMHeadModel(GPT2Config(**shape))
    texts = torch.randint(0, 32, (16, 8))
    data = [{"input_ids": text, "labels": text} for text in texts]
    options = dict(
        output_dir="out", per_device_train_batch_size=1, gradient_accumulation_steps=2, num_train_epochs=1,
        logging_steps=1, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
    ) | options
    arguments = TrainingArguments(**options)
    made = Trainer(model, arguments, train_dataset=data, eval_dataset=data[:2], callbacks=[*callbacks])
    made.remove_callback(PrinterCallback)
    return made

def trained(trainer):
    "Losses, gradient norms and weights, in full precision."
    trainer.train()
    logs = [[log[k].hex() for k in ("loss", "grad_norm") if k in log] for log in trainer.state.log_history]
    return logs, [p.tolist() for p in trainer.model.parameters()]

class Slow(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        time.sleep(0.1)

class Fails(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KeyError("mine")
"""

PROGRAMS = {
    "learns": """
import copy, pickle
energy = EnergyCallback("tiny", country="FRA", quiet=True)
options = dict(eval_strategy="steps", eval_steps=4, eval_on_start=True)
plain = trained(trainer(**options))
measured = trainer(energy, Slow(), **options)  # long enough for the meters to have a figure
assert trained(measured)[1] == plain[1]
losses = [[log[k].hex() for k in ("loss", "grad_norm")] for log in measured.state.log_history if "loss" in log]
assert losses == [log for log in plain[0] if len(log) == 2] and len(losses) == 8
last = measured.state.log_history[-1]
print(json.dumps(last))
assert sum("energy/duration_s" in log for log in measured.state.log_history) == 1
measured.train()  # again: a run of its own
trained(trainer(copy.deepcopy(energy)))
trained(trainer(pickle.loads(pickle.dumps(energy)), gradient_accumulation_steps=4))
""",
    "raises": """
failing = trainer(EnergyCallback(quiet=True, tags={"n": "1"}), Fails())
try:
    failing.train()
except KeyError as fault:
    print("passed", fault)
failing.remove_callback(Fails)
failing.train()
assert "energy/duration_s" in failing.state.log_history[-1]
try:
    with EnergyCallback("block", quiet=True) as energy:
        trainer(energy, Fails()).train()
except KeyError:
    pass
with energyprof.profile("after", quiet=True):  # the block closed its run: this is no region of it
    pass
trainer(EnergyCallback("last", quiet=True), Fails()).train()
""",
    "unmeasured": """
import os
os.environ["ENERGYPROF_OUT"] = "/proc/nowhere"
try:
    EnergyCallback(country="FRANCX")
except ValueError as fault:
    print(fault)
print(trained(trainer(EnergyCallback())) == trained(trainer()))
os.environ["ENERGYPROF_OUT"] = "runs"
energy = EnergyCallback(quiet=True)
energy.follower.begin_step = lambda: 1 / 0
print(trained(trainer(energy)) == trained(trainer()))
""",
    "inside": """
with energyprof.profile("outer", quiet=True) as run:
    try:
        trainer(EnergyCallback("one"), Fails()).train()
    except KeyError:
        pass
print(json.dumps([run.result.status, run.result.name]))
""",
    "resumed": """
options = dict(save_strategy="steps", save_steps=5)
trainer(**options).train()
again = trainer(EnergyCallback(quiet=True), **options)
again.train(resume_from_checkpoint="out/checkpoint-5")
print(again.state.global_step, sum("energy/duration_s" in log for log in again.state.log_history))
""",
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Said]:
    """Each program by what it said; all in one interpreter, since importing the framework takes ten seconds."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in OFFLINE.items():
            patch.setenv(name, value)
        texts = {name: TRAINER + text for name, text in PROGRAMS.items()}
        example = examples().get("transformers", "")
        return together(tmp_path_factory.mktemp("transformers") / "programs", {**texts, "example": example})


def regions(out: Path, run_id: str) -> dict[str, int]:
    """Calls by region."""
    rows = stored(str(out), run_id).rows()[2]
    return {row["region"]: row["calls"] for row in rows if row["channel"] == "total"}


def test_a_training_learns_the_same_with_the_callback_and_each_optimizer_step_is_a_step(
    ran: Mapping[str, Said],
) -> None:
    done = ran["learns"]
    assert done.returncode == 0, done.stderr
    assert "energyprof" not in done.stderr
    runs = energyprof.load(done.out)
    assert runs["steps"].tolist() == runs["steps_total"].tolist() == [8, 8, 8, 4]
    assert set(runs["status"]) == {"finished"}
    assert set(runs["name"]) == {"tiny"}
    logged = json.loads(done.stdout.splitlines()[-1])
    first = runs.iloc[0]
    figures = (
        ("joules", "energy_j"),
        ("u95_joules", "u95_j"),
        ("co2e_g", "co2e_g"),
        ("duration_s", "duration_s"),
    )
    assert {f"energy/{key}": first[column] for key, column in figures}.items() <= logged.items()
    assert (logged["step"], logged["epoch"]) == (8, 1.0)
    counts = [regions(done.out, run_id) for run_id in runs["run_id"]]
    assert counts[0] == {"substep": 16, "optimizer": 8, "evaluate": 3}
    assert counts[3] == {"substep": 16, "optimizer": 4}


def test_an_exception_passes_through_and_every_run_is_kept_and_closed(
    ran: Mapping[str, Said],
) -> None:
    done = ran["raises"]
    assert done.stdout.splitlines()[0] == "passed 'mine'", done.stderr
    assert done.returncode == 1
    assert done.stderr.rstrip().splitlines()[-1] == "KeyError: 'mine'"
    runs = energyprof.load(done.out)
    assert list(zip(runs["name"], runs["status"], runs["steps"].fillna(0))) == [
        ("train", "failed", 3),
        ("train", "finished", 8),
        ("block", "failed", 3),
        ("after", "finished", 0),
        ("last", "failed", 3),
    ]


def test_what_cannot_be_measured_is_one_warning_and_the_training_goes_on(
    ran: Mapping[str, Said],
) -> None:
    done = ran["unmeasured"]
    assert done.returncode == 0, done.stderr
    ours = [line for line in done.stderr.splitlines() if line.startswith("energyprof")]
    assert len(ours) == 2, done.stderr
    assert ours[0].startswith("energyprof: warning: not measuring: ")
    assert ours[1].startswith(
        "energyprof: warning: this training is not measured any further: ZeroDivisionError"
    )
    refused, *same = done.stdout.splitlines()
    assert "FRA (France)" in refused  # a wrong option is the user's: said before anything is trained
    assert same == ["True", "True"]


def test_a_training_within_a_run_is_a_region_of_it_whether_or_not_it_raises(
    ran: Mapping[str, Said], run_python: Runner, tmp_path: Path
) -> None:
    inside = ran["inside"]
    assert json.loads(inside.stdout.splitlines()[-1]) == ["finished", "outer"], inside.stderr
    launcher = "import sys; from energyprof.cli import main; sys.exit(main())"
    script = tmp_path / "under.py"
    script.write_text(
        TRAINER
        + """
t = trainer(EnergyCallback("two"))
t.train()
assert t.state.log_history[-1]["energy/duration_s"] > 0
""",
        encoding="utf-8",
    )
    done = run_python(f"import sys; sys.argv[1:] = ['run', {str(script)!r}]\n{launcher}", env=OFFLINE)
    assert done.returncode == 0, done.stderr
    settled(tmp_path / "runs")
    for out, run, name, steps in ((inside.out, "outer", "one", 3), (tmp_path / "runs", "under.py", "two", 8)):
        runs = energyprof.load(out)
        assert runs["name"].tolist() == [run]
        counts = regions(out, runs["run_id"][0])
        assert counts == {name: 1, f"{name}/substep": 2 * steps, f"{name}/optimizer": steps}


def test_a_resumed_training_counts_the_steps_that_it_made_itself(ran: Mapping[str, Said]) -> None:
    done = ran["resumed"]
    assert done.stdout.splitlines()[-1] == "8 1", done.stderr
    runs = energyprof.load(done.out)
    assert runs["steps"].tolist() == runs["steps_total"].tolist() == [3]


def test_the_example_of_the_documentation_runs_as_it_is(ran: Mapping[str, Said]) -> None:
    done = ran["example"]
    assert done.returncode == 0, done.stdout + done.stderr
    runs = energyprof.load(done.out)
    assert runs["name"].tolist() == ["finetune", "finetune"]
    assert set(runs["status"]) == {"finished"}
