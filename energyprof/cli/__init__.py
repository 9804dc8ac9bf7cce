"""The command line. Each verb is one file: it parses, calls the library, and prints.

Only the verb that is asked for is imported; `energyprof --help` loads click and nothing else.
"""

from __future__ import annotations

import errno
from importlib import import_module

import click

from energyprof.cli.words import say

# Verb -> what `energyprof --help` says of it; the verb's file has the rest.
VERBS = {
    "run": "Run a script, a module or any command, and measure it.",
    "ls": "List the runs of a dataset.",
    "show": "Show one run: joules, meters, regions, and what was not measured.",
    "compare": "Say whether a group of runs costs less than another, and how sure that is.",
    "bench": "Run commands in turn, many times, and say which costs less.",
    "report": "Write runs, or groups of them, as one HTML page.",
    "plot": "Draw a figure of runs: power, where the energy went, comparisons, intervals.",
    "doctor": "Say which meters can be read here, why not, and what to do.",
    "estimate": "Estimate energy, CO2e, cost and water of a run, before it runs.",
    "flops": "Count the FLOPs of a model, layer by layer, without running it.",
    "layers": "Measure the joules of every layer of a model, each repeated alone.",
    "recover": "Seal runs whose meter was killed.",
    "compact": "Merge the small files of past days, so that thousands of runs are few files.",
    "rm": "Delete runs from a dataset.",
    "completion": "Print what a shell needs to complete verbs, options and runs.",
}


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        verb = import_module(f"energyprof.cli.{cmd_name}").verb
        assert isinstance(verb, click.Command)
        return verb

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(args[0], VERBS, 1)
            hint = f"did you mean {near[0]}?" if near else "`energyprof --help` lists them"
            raise click.UsageError(f"no verb {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.command(cls=_Verbs)
@click.version_option(package_name="energyprof", message="energyprof %(version)s")
def _group() -> None:
    """How many joules and grams of CO2e did this cost, and where did they go?"""


def main() -> int:
    """The console script. Errors are one line on stderr; the exit status is 0 for done, 1 for a
    finding, 2 for wrong use, 70 for a fault of ours; `run` gives back the program's."""
    try:
        code = _group.main(prog_name="energyprof", standalone_mode=False)
    except click.ClickException as fault:
        if type(fault).__name__ == "NoArgsIsHelpError":  # since click 8.2: its message is the help
            click.echo(fault.format_message(), err=True)
            return fault.exit_code
        text = fault.format_message()
        if isinstance(fault, click.MissingParameter):  # click lists choices on lines of their own
            text = " ".join(text.split())
        say(text)
        return fault.exit_code
    except click.Abort:
        return 130
    except BrokenPipeError:
        return 0  # `energyprof ls | head`
    except OSError as fault:
        if fault.errno == errno.ENOSPC:
            say(f"cannot write: {fault.strerror}; make room there or choose another place")
            return 1
        if fault.filename == ".":
            say(f"{fault.strerror}; change to one that is there, or say --out with a whole path")
            return 2
        say(f"internal error: {type(fault).__name__}: {fault}; please report it")
        return 70
    except Exception as fault:
        say(f"internal error: {type(fault).__name__}: {fault}; please report it")
        return 70
    return code if isinstance(code, int) else 0
