"""IPython and Jupyter: `%load_ext energyprof`, then `%energy f(x)` or a cell that begins with `%%energy`.

The code runs in the user's namespace as any cell does: variables stay, an exception is the cell's own, and
the value of the last expression is the cell's. What `energyprof show` says of the run is printed before it.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING, Any

import energyprof
from energyprof.integrations.follower import end_abandoned

if TYPE_CHECKING:
    from energyprof.profiler import Run

_USAGE = "%energy takes --name NAME, --country CODE and --quiet, and then what to measure"
_VALUE = re.compile(r"""--(name|country)(?:=|\s+)("[^"]*"|'[^']*'|[^\s"'-]\S*)(?:\s+|$)""")
_QUIET = re.compile(r"--quiet(?:\s+|$)")


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext energyprof` calls: registers the magic."""
    from IPython.core.error import UsageError
    from IPython.core.magic import no_var_expand, output_can_be_silenced

    @no_var_expand  # {braces} are the user's dictionaries
    @output_can_be_silenced  # by a semicolon at the end, as in any cell
    def energy(line: str, cell: str | None = None) -> Any:
        """Measure a line or a cell: %energy [--name NAME] [--country CODE] [--quiet] [code]."""
        __tracebackhide__ = True  # an exception of the user's is shown without our frames
        try:
            options, rest = _options(line)
            profile = energyprof.profile(options.get("name"), country=options.get("country"), quiet=True)
        except ValueError as fault:
            raise UsageError(str(fault)) from None
        if cell is not None and rest:
            raise UsageError(f"the code of %%energy begins on the next line; {_USAGE}")
        if not (cell or rest).strip():
            raise UsageError(f"nothing to measure; {_USAGE}")
        body, last = _compiled(shell, rest if cell is None else cell)
        run = None
        end_abandoned()  # a training that raised in an earlier cell
        try:
            with profile as run:
                exec(body, shell.user_ns)
                return eval(last, shell.user_ns) if last else None
        finally:
            if run is not None and "quiet" not in options:
                _show(run)

    shell.register_magic_function(energy, magic_kind="line_cell", magic_name="energy")


def unload_ipython_extension(shell: Any) -> None:
    """What `%unload_ext energyprof` calls."""
    for magics in shell.magics_manager.magics.values():
        magics.pop("energy", None)


def _options(line: str) -> tuple[dict[str, str], str]:
    """The options that a magic's line begins with, and the rest of it; ValueError where one is wrong."""
    options: dict[str, str] = {}
    rest = line.strip()
    while rest.startswith("--"):
        if match := _VALUE.match(rest):
            options[match[1]] = match[2].strip("\"'")
        elif match := _QUIET.match(rest):
            options["quiet"] = ""
        else:
            word = rest.split()[0]
            fault = "needs a value" if word in ("--name", "--country") else "is not understood"
            raise ValueError(f"{word} {fault}; {_USAGE}")
        rest = rest[match.end() :]
    return options, rest


def _compiled(shell: Any, source: str) -> tuple[Any, Any]:
    """The code of all statements, and that of the last where it is an expression.

    Compiled before anything is measured, by the shell's compiler: its magics and transformers work, and
    tracebacks find the lines.
    """
    __tracebackhide__ = True
    text = shell.transform_cell(source)
    number = len(shell.history_manager.input_hist_raw) - 1  # of this cell, in every release of IPython
    name = shell.compile.cache(text, number, raw_code=source)
    tree = shell.transform_ast(shell.compile.ast_parse(text, filename=name))
    last = None
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        last = shell.compile(ast.Expression(tree.body.pop().value), name, "eval")
    return shell.compile(tree, name, "exec"), last


def _show(run: Run) -> None:
    """Print the run; a fault of ours is one warning line, and what the cell gave stays."""
    if run.run_id is None:
        return  # the warning has been given
    try:
        from energyprof.reports.text import details

        print("\n".join(details(*run.result.rows())))
    except Exception as fault:
        from energyprof.profiler import _one_line, _warn

        _warn(f"the run cannot be shown: {_one_line(fault)}")
