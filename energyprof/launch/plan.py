"""What a bench is going to run: commands with labels, options, the order of every round; kept beside its runs.

    OUT/_bench/<id>/
        plan.json       the plan, and how the bench ended
        lock            held by the process that works on it
        <label>.<n>.stderr    what a program that failed said

The order of a round follows from the seed and the round's number alone, so that a bench that was broken off goes
on as it would have gone.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import secrets
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import IO, Any

from energyprof.benches import BENCHES, plan_of
from energyprof.journal import write_whole
from energyprof.launch.target import command_for
from energyprof.runfolder import node_name

SHELL = "/bin/sh"
RUNNING, DONE, INTERRUPTED = "running", "done", "interrupted"
_DIGESTED_BYTES = 1 << 24  # of a file that a command names: scripts and settings, not weights
_A_DAY_S = 86_400.0
_INTERPRETER = re.compile(r"(python|bash|sh|ruby|perl|node)[\d.]*")
_SLUG = 48  # characters of a label: a file is named by it too
_UNITS_S = {"": 1.0, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


class PlanError(ValueError):
    """The bench cannot be made as it was asked for; the text says what to do."""


@dataclass(frozen=True)
class Arm:
    """One of the commands: what it is called, as it was typed, and as it is started."""

    label: str
    text: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """A bench. `until` is relative (0.02); None where a limit was not asked for; `cool_s` None: until power settles."""

    bench_id: str
    arms: tuple[Arm, ...]
    rounds: int = 10
    warmup: int = 1
    seed: int = 0
    until: float | None = None
    budget_s: float | None = None
    cool_s: float | None = None
    failures: int = 3
    shell: bool = False
    show: bool = False
    cwd: str = ""
    node: str = ""
    digest: str = ""
    site: Mapping[str, Any] = field(default_factory=dict)

    def order(self, name: str) -> list[int]:
        """The arms of a round, in random order; `name` is the round's: "1", "warmup 1"."""
        found = list(range(len(self.arms)))
        random.Random(f"{self.seed}/{name}").shuffle(found)
        return found

    def slug(self, arm: int) -> str:
        """What names an arm in a tag: nothing of it is a pattern or a separator."""
        slugs = [re.sub(r"[^\w.=-]+", "-", one.label).strip("-")[:_SLUG] or "arm" for one in self.arms]
        return slugs[arm] if len(set(slugs)) == len(slugs) else f"{slugs[arm]}-{arm + 1}"

    def selector(self, arm: int) -> str:
        """The tag of the runs that are compared, as `energyprof compare` takes it."""
        return f"compared={self.bench_id}/{self.slug(arm)}"

    def same_work(self, other: Plan) -> bool:
        """Whether the other bench is this one: same commands, files, options, place and machine."""
        return replace(self, bench_id="", seed=0) == replace(other, bench_id="", seed=0)


def arms_of(texts: Sequence[str], labels: Sequence[str] = (), shell: bool = False) -> tuple[Arm, ...]:
    """The commands of a bench, found and named.

    Raises
    ------
    PlanError
        No command, one that is empty or has an open quote, or labels that do not fit.
    energyprof.launch.target.TargetError
        A command is not there; nothing has been started.
    """
    if not texts:
        raise PlanError("nothing to run; try energyprof bench 'python a.py' 'python b.py'")
    words = [_words(text) for text in texts]
    if not shell and len(texts) > 1 and (bare := next((w[0] for w in words if _alone(w)), None)):
        raise PlanError(
            f"{bare!r} alone runs nothing: quote each command as a whole, energyprof bench 'python a.py' 'python b.py'"
        )
    commands = [(SHELL, "-c", text) if shell else _found(w) for text, w in zip(texts, words)]
    labels = [label.strip() for label in labels]
    if labels and len(labels) != len(texts):
        raise PlanError(
            f"{len(labels)} labels for {len(texts)} commands; say --label once a command, or never"
        )
    if len(set(labels)) < len(labels) or not all(labels):
        raise PlanError("labels must differ and not be empty: runs are told apart by them")
    chosen = labels or shortest(words)
    return tuple(Arm(label, text, command) for label, text, command in zip(chosen, texts, commands))


def _found(words: list[str]) -> tuple[str, ...]:
    """A command that can be started, and whose Python script is there."""
    if _interpreter(words) and words[1:2] and words[1].endswith(".py"):
        command_for(words[1:])
    return tuple(command_for(words))


def _words(text: str) -> list[str]:
    try:
        found = shlex.split(text)
    except ValueError as fault:
        raise PlanError(f"{text!r}: {str(fault).lower()}; quote it as a shell would") from None
    if not any(found):
        raise PlanError("a command is empty; write what is to be run between the quotes")
    return found


def shortest(commands: Sequence[Sequence[str]]) -> list[str]:
    """What tells commands apart, and no more: a.py, b.py; batch 8, batch 32."""
    least = min(map(len, commands))
    if len(commands) == 1:
        return [" ".join(_bare(commands[0][: 2 if _interpreter(commands[0]) else 1])[-1:])]
    first = 0
    while first < least - 1 and len({words[first] for words in commands}) == 1:
        first += 1
    last = 0
    while last < least - first - 1 and len({words[-1 - last] for words in commands}) == 1:
        last += 1
    option = first and commands[0][first - 1].startswith("-") and not commands[0][first].startswith("-")
    if option or (first and all(re.fullmatch(r"[\d.]+", words[first]) for words in commands)):
        first -= 1  # a value says little without its name
    parts = [words[first : len(words) - last] for words in commands]
    bare = [" ".join(_bare(words)) for words in parts]
    bare = [label.lstrip("-") or label for label in bare]
    found = bare if len(set(bare)) == len(bare) else [" ".join(words) for words in parts]
    counts: dict[str, int] = {}
    for i, label in enumerate(found):
        counts[label] = counts.get(label, 0) + 1
        found[i] = label if counts[label] == 1 else f"{label} ({counts[label]})"
    return found


def _interpreter(words: Sequence[str]) -> bool:
    return len(words) > 1 and _INTERPRETER.match(os.path.basename(words[0])) is not None


def _alone(words: Sequence[str]) -> bool:
    """An interpreter without anything to run, as where the quotes around a command were forgotten."""
    return len(words) == 1 and _INTERPRETER.fullmatch(os.path.basename(words[0])) is not None


def _bare(words: Sequence[str]) -> list[str]:
    """Words without the folders of what they name."""
    return [os.path.basename(word.rstrip("/")) or word if os.path.exists(word) else word for word in words]


def new(texts: Sequence[str], labels: Sequence[str] = (), *, shell: bool = False, **options: Any) -> Plan:
    """A plan that nobody has begun, its options checked.

    Raises
    ------
    PlanError, energyprof.launch.target.TargetError
        See `arms_of` and `checked`.
    """
    arms = arms_of(texts, labels, shell)
    told = {name: value for name, value in options.items() if value is not None}
    told.setdefault("seed", secrets.randbelow(1 << 32))
    made = Plan(secrets.token_hex(4), arms, shell=shell, cwd=os.getcwd(), node=node_name(), **told)
    return checked(replace(made, digest=digest_of_arms(made)))


def checked(plan: Plan) -> Plan:
    """The plan; PlanError where a number of it makes no sense."""
    if plan.rounds < 1 or (plan.rounds < 2 and len(plan.arms) > 1):
        raise PlanError(
            f"-n {plan.rounds}: what varies from run to run takes two runs at least; ten are good"
        )
    for name, value in (("--warmup", plan.warmup), ("--seed", plan.seed), ("--cool", plan.cool_s or 0.0)):
        if not 0 <= value < float("inf"):
            raise PlanError(f"{name} {value:g}: it cannot be negative or endless")
    if plan.until is not None and not plan.until > 0:
        raise PlanError("--until 0 %: no interval is so narrow; write --until 2%")
    if plan.failures < 1:
        raise PlanError(f"--failures {plan.failures}: say after how many failed runs to stop, 1 at least")
    return plan


def seconds(text: str) -> float:
    """`30min`, `90s`, `1.5h` or a bare number of seconds. PlanError where it is none of these, or not above zero."""
    found = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]*)\s*", text)
    unit = _UNITS_S.get(found[2]) if found else None
    if found is None or unit is None or not float(found[1]) > 0:
        raise PlanError(f"{text!r} is no time above zero; write 30min, 90s or 1.5h")
    return float(found[1]) * unit


def digest_of(words: Sequence[str]) -> str:
    """A digest of the files that the commands name: a script that was edited is another one."""
    found = hashlib.sha256()
    for word in words:
        try:
            if os.path.isfile(word) and os.path.getsize(word) <= _DIGESTED_BYTES:
                with open(word, "rb") as file:
                    found.update(hashlib.sha256(file.read()).digest())
        except (OSError, ValueError):
            continue
    return found.hexdigest()


def digest_of_arms(plan: Plan) -> str:
    """The digest of the files that a plan's commands name, as they are now, from its working directory."""
    words = [word for arm in plan.arms for word in _words(arm.text)]
    return digest_of([os.path.join(plan.cwd, word) for word in words])


def folder_of(out: str, bench_id: str) -> str:
    """Where a bench keeps what is not a run."""
    return os.path.join(out, BENCHES, bench_id)


def save(out: str, plan: Plan, state: str, left_out: Sequence[str] = ()) -> None:
    """Keep the plan and how far it is; OSError where the dataset cannot be written.

    `left_out` are runs that ended well and do not count: a signal came while they ran.
    """
    os.makedirs(folder_of(out, plan.bench_id), exist_ok=True)
    told = {"state": state, "left_out": list(left_out), "plan": asdict(plan)}
    write_whole(plan_of(out, plan.bench_id), json.dumps(told, indent=1))


def load(out: str, bench_id: str) -> tuple[Plan, str, list[str]]:
    """A plan as it was kept, its state, and the runs that are left out.

    Raises
    ------
    PlanError
        There is no such bench, or its file is damaged.
    """
    found = [one for one in known(out) if bench_id and one.startswith(bench_id)]
    if len(found) != 1:
        few = ", ".join(known(out)[-3:]) or "none yet"
        which = "no bench" if not found else "several benches begin with"
        raise PlanError(f"{which} {bench_id or '(empty)'} in {out}; there are: {few}")
    path = plan_of(out, found[0])
    try:
        with open(path, encoding="utf-8") as file:
            told = json.load(file)
        facts = told["plan"]
        arms = tuple(Arm(a["label"], a["text"], tuple(a["command"])) for a in facts["arms"])
        plan = checked(Plan(**{**facts, "arms": arms, "bench_id": found[0]}))
        return plan, str(told["state"]), list(told["left_out"])
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise PlanError(f"{path} is damaged ({fault}); its runs are in the dataset all the same") from None


def known(out: str) -> list[str]:
    """The ids of the benches of a dataset, the last begun at the end."""
    folder = os.path.join(out, BENCHES)
    try:
        names = [name for name in os.listdir(folder) if os.path.isfile(plan_of(out, name))]
        return sorted(names, key=lambda name: os.path.getmtime(plan_of(out, name)))
    except OSError:
        return []


def interrupted(out: str, plan: Plan) -> str | None:
    """The id of the last bench that is this one and was broken off within a day; None where there is none, or it is
    running. What a script imports may have changed since, and nobody looks at that: hence the day."""
    for bench_id in reversed(known(out)):
        try:
            other, state, _ = load(out, bench_id)
        except PlanError:
            continue
        if plan.same_work(other):
            recent = time.time() - os.path.getmtime(plan_of(out, bench_id)) < _A_DAY_S
            broken_off = state in (RUNNING, INTERRUPTED) and not held(out, bench_id)
            return bench_id if broken_off and recent else None
    return None


def hold(out: str, bench_id: str) -> IO[str] | None:
    """Keep others from working on this bench until the file is closed; None where somebody does."""
    path = os.path.join(folder_of(out, bench_id), "lock")
    file = open(path, "w", encoding="utf-8")  # noqa: SIM115  # it is the caller's to close
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:
        pass  # no such locks on Windows
    except OSError:
        file.close()
        return None
    return file


def held(out: str, bench_id: str) -> bool:
    """Whether a process works on this bench."""
    try:
        file = hold(out, bench_id)
    except OSError:
        return False
    if file is None:
        return True
    file.close()
    return False
