"""EnergyMonitor in the real Trainer of Lightning, under both of its names; a program for each test."""

from __future__ import annotations

import csv
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
NAMES = [name for name in ("lightning", "pytorch_lightning") if find_spec(name)]
pytestmark = [
    pytest.mark.skipif(not NAMES, reason="needs energyprof[lightning]"),
    pytest.mark.timeout(300),
]

TRAINER = """
import json, logging, sys, warnings
warnings.simplefilter("ignore")
import torch
PACKAGE as L
logging.getLogger(L.__name__).setLevel(logging.ERROR)
import energyprof
from energyprof.integrations.lightning import EnergyMonitor

class Model(L.LightningModule):
    fails_at = None

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self.losses = []

    def training_step(self, batch, index):
        if self.global_step == self.fails_at:
            raise KeyError("mine")
        loss = self.layer(batch).square().mean()
        self.losses.append(loss.item().hex())
        return loss

    def validation_step(self, batch, index):
        self.log("checked", self.layer(batch).mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)

def fitted(*callbacks, fails_at=None, logger=False, **options):
    L.seed_everything(7, verbose=False)
    model, data = Model(), torch.randn(12, 4)
    model.fails_at = fails_at
    loader = torch.utils.data.DataLoader(data, batch_size=2, shuffle=True)
    options = dict(max_epochs=1, accelerator="cpu", log_every_n_steps=1) | options
    quiet = dict(enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False)
    trainer = L.Trainer(callbacks=[*callbacks], logger=logger, **options, **quiet)
    trainer.fit(model, loader, torch.utils.data.DataLoader(data[:4]))
    return model.losses, [p.tolist() for p in model.parameters()]
"""


def program(text: str, package: str = "") -> str:
    package = package or NAMES[0]
    statement = "import lightning.pytorch" if package == "lightning" else f"import {package}"
    return TRAINER.replace("PACKAGE", statement) + text


PROGRAMS = {
    "learns": """
import copy, pickle
CSVLogger = sys.modules[L.__name__ + ".loggers"].CSVLogger
monitor = EnergyMonitor("tiny", country="FRA", quiet=True)
assert isinstance(monitor, L.Callback)
plain = fitted()
assert fitted(monitor, logger=CSVLogger("learned")) == plain and len(plain[0]) == 6
assert fitted(copy.deepcopy(monitor), max_epochs=2)[0][:6] == plain[0]
assert fitted(pickle.loads(pickle.dumps(monitor)), accumulate_grad_batches=3)[0] != plain[0]
""",
    "raises": """
monitor = EnergyMonitor(quiet=True)
try:
    fitted(monitor, fails_at=2)
except KeyError as fault:
    print("passed", fault)
with energyprof.profile("after", quiet=True):  # that run is closed: this is no region of it
    pass
fitted(monitor)
with energyprof.profile("outer", quiet=True) as run:
    try:
        fitted(EnergyMonitor("inner"), fails_at=2)
    except KeyError:
        pass
print(run.result.status)
fitted(EnergyMonitor("last", quiet=True), fails_at=2)
""",
    "unmeasured": """
import os
os.environ["ENERGYPROF_OUT"] = "/proc/nowhere"
print(fitted(EnergyMonitor()) == fitted())
os.environ["ENERGYPROF_OUT"] = "runs"
monitor = EnergyMonitor(quiet=True)
monitor.follower.begin_step = lambda: 1 / 0
print(fitted(monitor) == fitted())
""",
    "goes on": """
monitor = EnergyMonitor(quiet=True)
L.seed_everything(7, verbose=False)
loader = torch.utils.data.DataLoader(torch.randn(12, 4), batch_size=2)
quiet = dict(enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", logger=False)
trainer = L.Trainer(max_epochs=1, callbacks=[monitor], **quiet)
trainer.fit(Model(), loader)
trainer.save_checkpoint("at.ckpt")
L.Trainer(max_epochs=2, callbacks=[EnergyMonitor(quiet=True)], **quiet).fit(Model(), loader, ckpt_path="at.ckpt")
L.Trainer(callbacks=[monitor], **quiet).validate(Model(), loader, verbose=False)
print("done")
""",
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Said]:
    """Each program by what it said; all in one interpreter, since importing the framework takes ten seconds."""
    texts = {name: program(text) for name, text in PROGRAMS.items()}
    folder = tmp_path_factory.mktemp("lightning") / "programs"
    return together(folder, {**texts, "example": examples()["lightning"]})


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Said]:
    """The first of them under the framework's other name."""
    texts = {"learns": program(PROGRAMS["learns"], NAMES[-1])}
    return together(tmp_path_factory.mktemp("other") / "programs", texts)


def regions(out: Path, run_id: str) -> dict[str, int]:
    """Calls by region."""
    rows = stored(str(out), run_id).rows()[2]
    return {row["region"]: row["calls"] for row in rows if row["channel"] == "total"}


@pytest.mark.parametrize("package", ["lightning", "pytorch_lightning"])
def test_a_fit_learns_the_same_with_the_monitor_and_each_batch_is_a_step(
    ran: Mapping[str, Said], others: Mapping[str, Said], package: str
) -> None:
    if package not in NAMES:
        pytest.skip(f"needs {package}")
    done = ran["learns"] if package == NAMES[0] else others["learns"]
    assert done.returncode == 0, done.stderr
    assert "energyprof" not in done.stderr
    runs = energyprof.load(done.out)
    assert runs["steps"].tolist() == runs["steps_total"].tolist() == [6, 12, 6]
    assert set(runs["status"]) == {"finished"}
    assert set(runs["name"]) == {"tiny"}
    assert regions(done.out, runs["run_id"][0]) == {"sanity_check": 1, "validation": 1}
    (log,) = (done.out.parents[1] / "learned").rglob("metrics.csv")
    with log.open(encoding="utf-8") as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["energy/duration_s"]) == runs["duration_s"][0]
    assert last["step"] == "6"


def test_an_exception_passes_through_and_every_run_is_kept_and_closed(ran: Mapping[str, Said]) -> None:
    done = ran["raises"]
    assert done.stdout.splitlines() == ["passed 'mine'", "finished"], done.stderr
    assert done.returncode == 1
    assert done.stderr.rstrip().splitlines()[-1] == "KeyError: 'mine'"
    runs = energyprof.load(done.out)
    assert list(zip(runs["name"], runs["status"], runs["steps"].fillna(0))) == [
        ("fit", "failed", 3),  # the step that raised is one of them
        ("after", "finished", 0),
        ("fit", "finished", 6),
        ("outer", "finished", 3),
        ("last", "failed", 3),
    ]
    assert regions(done.out, runs["run_id"][3]) == {"inner": 1, "inner/sanity_check": 1}


def test_what_cannot_be_measured_is_one_warning_and_the_training_goes_on(ran: Mapping[str, Said]) -> None:
    done = ran["unmeasured"]
    assert done.stdout.splitlines() == ["True", "True"], done.stderr
    ours = [line for line in done.stderr.splitlines() if line.startswith("energyprof")]
    assert len(ours) == 2, done.stderr
    assert ours[0].startswith("energyprof: warning: not measuring: ")
    assert ours[1].startswith(
        "energyprof: warning: this training is not measured any further: ZeroDivisionError"
    )


def test_a_checkpoint_holds_no_run_and_a_fit_goes_on_from_it(ran: Mapping[str, Said]) -> None:
    done = ran["goes on"]
    assert done.stdout == "done\n", done.stderr
    assert energyprof.load(done.out)["steps"].tolist() == [6, 6]


def test_the_example_of_the_documentation_runs_as_it_is(ran: Mapping[str, Said]) -> None:
    if NAMES[0] != "lightning":
        pytest.skip("needs lightning")
    done = ran["example"]
    assert done.returncode == 0, done.stdout + done.stderr
    runs = energyprof.load(done.out)
    assert runs["name"].tolist() == ["fit"]
    assert set(runs["status"]) == {"finished"}


def test_the_ranks_that_lightning_starts_by_itself_are_one_run(run_python: Runner, tmp_path: Path) -> None:
    done = run_python(
        program(
            """
if __name__ == "__main__":
    fitted(EnergyMonitor(quiet=True), devices=2, strategy="ddp")
"""
        )
    )
    assert done.returncode == 0, done.stderr
    assert "energyprof" not in done.stderr
    settled(tmp_path / "runs")
    assert energyprof.load(tmp_path / "runs")["steps"].tolist() == [3]  # of the first; it measures for all
