"""profile(), region() and steps(): what a user's program calls.

`profile(...)` is a context manager and a decorator of functions, async functions, generators and async
generators. A profile inside a profile (or inside a program under `energyprof run`) is a region of the
outer run. Nothing here raises into the program for a fault of ours: what goes wrong becomes one warning
line, and the program goes on unmeasured.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

from energyprof.marks import NoRegion, Region, Steps, _current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from typing import Any, TypeVar, overload

    import torch

    from energyprof.layers.replay import Replayed
    from energyprof.layers.schedule import Schedule
    from energyprof.result import Result
    from energyprof.session import Session

    F = TypeVar("F", bound=Callable[..., Any])
    T = TypeVar("T")

_NOTHING = NoRegion()
_lock = threading.RLock()
_session: Session | None = None  # the run that this process is in
_depth = 0  # profiles that are open in this process
_look_outside = "ENERGYPROF_RUN" in os.environ  # `energyprof run` measures, and nobody has joined yet


class Run:
    """One stay inside a profile: regions, steps and counts while it lasts, and its `result` afterwards.

    The stay itself is the context manager, so that stays of one decorated function may overlap in tasks
    and threads.
    """

    def __init__(self, profile: Profile) -> None:
        self._profile = profile
        self._session: Session | None = None
        self._root: Region | None = None  # the region that this stay is
        self._path: tuple[str, ...] | None = None  # where that region stands in an outer run
        self._closed = False
        self._result: Result | None = None
        self._left_ns = 0

    def __enter__(self) -> Run:
        with _lock:
            try:
                self._profile._begin(self)
            except Exception as fault:  # whatever it is, the user's program goes on
                self._session = None
                _warn(f"not measuring: {_one_line(fault)}")
        return self

    def __exit__(self, kind: object, *exc: object) -> None:
        with _lock:
            try:
                # A generator that its consumer leaves early has not failed.
                self._profile._end(self, failed=kind not in (None, GeneratorExit))
            except Exception as fault:
                _warn(f"the end of the run may be missing: {_one_line(fault)}")
            self._closed = True

    @property
    def run_id(self) -> str | None:
        """The id under which the run is stored; None where nothing could be measured."""
        session = self._session
        return os.path.basename(session.folder).split(".")[0] if session else None

    def region(self, name: str) -> Region | NoRegion:
        """`with run.region("forward"):` a named part of the run. Regions nest; names may repeat."""
        session = self._session
        return session.recorder.region(name) if session else _NOTHING

    def steps(self, iterable: Iterable[T], total: int | None = None) -> Iterator[T]:
        """Iterate over `iterable`; each item begins a step, which is counted and timed.

        With `total`, the steps of the whole training (of all such loops), the run has a forecast of its cost.
        """
        if total is not None:
            from energyprof.settings import steps_total

            total = steps_total(total)
        session = self._session
        if session and total and session.expect(total):
            _warn(f"a total of {total} steps was said, and another before; the last holds")
        return Steps(session.recorder if session else None, iterable, total is not None)

    def log(self, **metrics: float) -> None:
        """Keep the last value of quality metrics with the run: `run.log(accuracy=0.91)`."""
        if self._session:
            self._session.metrics.update(_finite(metrics))

    def count(self, *, samples: float = 0, tokens: float = 0) -> None:
        """Add work done, for joules a sample and a token."""
        if self._session:
            amounts = _finite({"samples": samples, "tokens": tokens})
            self._session.count({key: amount for key, amount in amounts.items() if amount > 0})

    def replay_layers(self, model: torch.nn.Module, batch: Any, **options: Any) -> Replayed:
        """Joules of every layer of `model`, measured after the block: see `energyprof.replay_layers`.

        They are stored with a run of their own, and with this one, where closure is against its energy per step.

        Raises
        ------
        RuntimeError
            The block has not been left yet, or nothing could be measured.
        """
        if not self._closed:
            raise RuntimeError("the run is still open: leave the `with` block before replaying layers")
        from energyprof.layers.replay import beside, replay

        result = self.result
        quiet = options.pop("quiet", self._profile.quiet)
        options = {"out": result.out, "tell": None if quiet else _say, **options}
        return beside(result, replay(model, batch, profile, **options))

    @property
    def result(self) -> Result:
        """The stored figures of this run; waits until they are sealed (about a second).

        Raises
        ------
        RuntimeError
            The block has not been left yet, or nothing could be measured.
        """
        if not self._closed:
            raise RuntimeError("the run is still open: leave the `with` block before asking for its result")
        if self._session is None and _forked:
            raise RuntimeError(
                "not measured: this process was forked from a measured one, which measures for both"
            )
        if self._session is None:
            raise RuntimeError("this run was not measured; the warning at its start says why")
        if self._result is None:
            from energyprof.result import wait_for

            self._result = wait_for(self._session.folder, self._session.role, self._left_ns, self._path)
        return self._result


class Profile:
    """Options of a profile; each `with` or call of the decorated function enters it once."""

    def __init__(
        self,
        name: str | None,
        quiet: bool,
        facts: dict[str, Any],
        out: str | None,
        baseline_s: float = 0.0,
        layers: str = "",
    ) -> None:
        self.name = name
        self.quiet = quiet
        self._facts = facts
        self._out = out
        self._baseline_s = baseline_s
        self._layers = layers
        self._open: list[Run] = []
        self._kept: Session | None = None  # of a decorated function: the run its calls share
        self._told = False
        self.run: Run | None = None

    def __enter__(self) -> Run:
        self._open.append(Run(self))
        return self._open[-1].__enter__()

    def __exit__(self, *exc: object) -> None:
        self._open.pop().__exit__(*exc)

    def _begin(self, run: Run) -> None:
        global _session, _depth, _look_outside
        from energyprof.session import open_session

        _look_outside = False
        self.run = run
        if _forked:
            return
        session = _session
        baseline_s = 0.0
        if session is None:
            kept = self._kept
            if kept is not None and os.path.isfile(os.path.join(kept.folder, "run.json")):
                session = kept
            else:
                from energyprof.siting import facts_of_site

                session = open_session(
                    _out_folder(self._out),
                    {**self._facts, **_program_facts(), "site": facts_of_site(self._facts["site"], _warn)},
                    self._facts["cuda"],
                    self._layers,
                )
                _hold_in_child()
                # Calls within each other are regions of a run of their own.
                self._told = session.role != "joined"
                baseline_s = 0.0 if session.role == "joined" else self._baseline_s
            if self._facts.get("reopens"):
                self._kept = session
            _current.set(0)
        if _depth == 0:
            if baseline_s and not self.quiet:
                _say(f"measuring the idle machine for {baseline_s:g} s before the block")
            session.enter(self.name or "profile", baseline_s)
        _session = run._session = session
        _depth += 1
        # The calls of a decorated function are a region of the run that they share.
        nested = _depth > 1 or session.role == "joined"
        if self._layers and session.timer is None:
            _warn("layers= inside another profile is not followed: say it in the outer one")
        if nested or self._facts.get("reopens"):
            run._root = session.recorder.region(self.name or "profile")
            run._root.__enter__()
        if nested:
            run._path = session.recorder.path_of(_current.get())
            self._tell_what_is_the_outers()

    def _tell_what_is_the_outers(self) -> None:
        """Once: a region has no place, price or tags of its own."""
        told = {**self._facts["site"], "tags": self._facts["tags"] or None}
        said = [name for name, value in told.items() if value is not None]
        if said and not (self.quiet or self._told):
            said_there = f"of {', '.join(said)} counts what is said there"
            _warn(f"this profile is a region of the run around it: {said_there}")
        self._told = True

    def _end(self, run: Run, failed: bool) -> None:
        global _session, _depth
        session = run._session
        if session is None:
            return
        if run._root is not None:
            run._root.__exit__()
        _depth -= 1
        if _depth == 0 and _session is session:
            session.leave(failed)
            run._left_ns = session.left_ns
            if session.role == "joined":
                return  # the outer run goes on, and regions outside any profile belong to it
            _session = None
            if self._kept is not session:
                session.close()
                if not self.quiet:
                    _say(f"run {run.run_id} is being sealed; `energyprof show @last` shows it")
        else:
            from time import monotonic_ns

            run._left_ns = monotonic_ns()

    def __call__(self, function: F) -> F:
        """Decorate: every call is measured; the calls of one program are one run."""
        if isinstance(function, (type, classmethod, staticmethod)):
            kind = "class" if isinstance(function, type) else type(function).__name__
            hint = "decorate its methods" if kind == "class" else f"put it below @{kind}"
            raise TypeError(f"@energyprof.profile decorates functions, not a {kind}: {hint}")
        self.name = self.name or getattr(function, "__name__", type(function).__name__)
        self._facts.update(name=self.name, reopens=True)
        from energyprof.wrapping import wrapped

        measured = wrapped(function, lambda: Run(self))
        measured.profile = self
        return measured  # type: ignore[no-any-return]  # wraps() keeps the signature, not the type


if TYPE_CHECKING:

    @overload
    def profile(name: F, /) -> F: ...

    @overload
    def profile(
        name: str | None = None,
        *,
        out: str | os.PathLike[str] | None = None,
        tags: Mapping[str, str] | None = None,
        country: str | None = None,
        intensity: float | str | None = None,
        pue: float | str | None = None,
        wue: float | str | None = None,
        price: float | str | None = None,
        baseline_s: float | None = None,
        cuda: str | None = None,
        layers: bool | str | Schedule | None = None,
        quiet: bool = False,
    ) -> Profile: ...


def profile(
    name: Any = None,
    *,
    out: str | os.PathLike[str] | None = None,
    tags: Mapping[str, str] | None = None,
    country: str | None = None,
    intensity: float | str | None = None,
    pue: float | str | None = None,
    wue: float | str | None = None,
    price: float | str | None = None,
    baseline_s: float | None = None,
    cuda: str | None = None,
    layers: bool | str | Schedule | None = None,
    quiet: bool = False,
) -> Any:
    """Measure a block (`with profile(): ...`) or a function (`@profile`, `@profile(...)`).

    Parameters
    ----------
    name
        What the run is called in listings; a function's own name where it is decorated.
    out
        The dataset's folder; else ENERGYPROF_OUT, [tool.energyprof] out, ./energyprof-runs.
    tags
        Texts to store with the run.
    country
        Where the electricity comes from: a country (FRA), a state, province or zone (US-CA, CA-QC, SE3), or a cloud's
        region (aws:eu-west-3). Its yearly carbon intensity is used.
    intensity
        Carbon intensity in gCO2e/kWh, instead of a country; or a .csv or .parquet file of times and g/kWh; or
        ``electricitymaps``, which asks that service at the run's end (token in ELECTRICITYMAPS_TOKEN).
    pue, wue
        What the data centre adds: energy of the whole over energy of the machines, and litres of water a kWh;
        numbers, or ``provider`` for what the cloud's owner publishes.
    price
        Of a kWh: ``0.25 EUR``, ``0.30 EUR, 22-6 0.18`` with the hours of another price, or ``prices.csv EUR``.
    baseline_s
        Wait so many seconds (1 to 600) before the block and measure the idle machine meanwhile: the result
        then has `net_energy_j`, the energy above idle, beside the whole. Not in a profile inside another.
    cuda
        How regions are timed on a GPU, once the program has initialised CUDA. ``events``: CUDA events at
        their ends say when their work ran; nothing waits, but the end of the run, for the work that was
        queued. ``sync``: the host waits for the device at each end. ``off``: host time. Else
        ENERGYPROF_CUDA, [tool.energyprof] cuda, ``events``.
    layers
        True or an `energyprof.Schedule`: count FLOPs and time some steps by layer, for `result.layers`.
    quiet
        Say nothing on stderr, neither before a wait nor at the run's end.

    Raises
    ------
    ValueError
        An option without sense; before anything is measured.
    """
    if callable(name) or isinstance(name, classmethod):
        return profile()(name)  # pyright: ignore[reportArgumentType]  # it says why where that is none
    if name is not None:
        name = str(name)  # an epoch's number, a path
    if tags is not None and not hasattr(tags, "items"):
        raise ValueError(f"tags is {str(tags)[:40]!r}; give a dict of texts")
    if baseline_s is not None:
        from energyprof.settings import baseline_s as checked

        baseline_s = checked(baseline_s)
    if cuda is not None:
        from energyprof.settings import cuda_mode

        cuda_mode(cuda)
    site = {"country": country, "intensity": intensity, "pue": pue, "wue": wue, "price": price}
    if any(value is not None for value in site.values()):
        from energyprof.siting import check

        check(site, _warn)
    said = ""
    if layers is not None and layers is not False:
        from energyprof.layers.schedule import schedule_of

        said = str(schedule_of(layers) or "")
    facts = {
        "name": name,
        "tags": {str(key): str(value) for key, value in (tags or {}).items()},
        "site": site,
        "cuda": cuda,
    }
    folder = None if out is None else os.fspath(out)
    return Profile(name, quiet, facts, folder, baseline_s or 0.0, said)


def region(name: str) -> Region | NoRegion:
    """`with energyprof.region("forward"):` a region of whatever run this process is in; else nothing."""
    if _session is not None:
        return _session.recorder.region(name)
    if _look_outside:
        join_outer()
        if _session is not None:
            return _session.recorder.region(name)
    return _NOTHING


def join_outer() -> None:
    """Under `energyprof run`, a program without a profile of its own still marks its regions and layers."""
    global _session, _look_outside
    with _lock:
        if not _look_outside:
            return
        _look_outside = False
        try:
            from energyprof.session import open_session

            session = open_session("", {})
            if session.role == "joined":
                session.enter("")
                _hold_in_child()
                _session = session
        except Exception as fault:
            _warn(f"regions are not marked: {_one_line(fault)}")


def _out_folder(out: str | None) -> str:
    from energyprof.settings import out_folder

    return out_folder(out)


def _program_facts() -> dict[str, Any]:
    try:
        cwd = os.getcwd()
    except OSError:
        cwd = None  # it has vanished
    return {"command": list(sys.orig_argv), "cwd": cwd, "pid": os.getpid()}


_child_held = False
_forked = False  # this process was forked from a measured one: it measures nothing


def _hold_in_child() -> None:
    """A forked worker never samples, and its marks are dropped."""
    global _child_held
    if not _child_held and hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget_in_child)
        _child_held = True


def _forget_in_child() -> None:
    global _session, _depth, _lock, _forked
    from energyprof.session import Helper

    _lock, _forked = threading.RLock(), True
    if _session is not None:
        _session.recorder.drop_in_child()
        if _session.timer is not None:
            _session.timer.forget()
    _session, _depth = None, 0
    Helper.forget_in_child()


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    """What can be stored and compared; the rest is named and left out."""
    from energyprof.settings import finite

    return finite(values, _warn)


def _one_line(fault: BaseException) -> str:
    return " ".join(f"{type(fault).__name__}: {fault}".split())


def _warn(text: str) -> None:
    _say(f"warning: {text}")


def _say(text: str) -> None:
    try:
        print(f"energyprof: {text}", file=sys.stderr, flush=True)
    except (OSError, ValueError, AttributeError):
        pass  # the program closed its stderr
