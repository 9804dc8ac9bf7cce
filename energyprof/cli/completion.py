"""`energyprof completion`: what a shell needs to complete verbs, options and runs."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

_WHERE = {
    "bash": 'eval "$(energyprof completion bash)" in ~/.bashrc',
    "zsh": 'eval "$(energyprof completion zsh)" in ~/.zshrc',
    "fish": "energyprof completion fish > ~/.config/fish/completions/energyprof.fish",
}


@click.command(
    "completion", epilog="To have it in each shell: " + "; ".join(f"{s}: {how}" for s, how in _WHERE.items())
)
@click.argument("shell", type=click.Choice(sorted(_WHERE)))
@click.pass_context
def verb(ctx: click.Context, shell: str) -> int:
    """Print the completion script of a shell."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "energyprof", "_ENERGYPROF_COMPLETE").source())
    return 0
