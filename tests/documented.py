"""The examples of docs/integrations.md, by the framework that each needs."""

from __future__ import annotations

import re

from tests.conftest import ROOT


def examples() -> dict[str, str]:
    """Program texts for `transformers`, `lightning` and `IPython`; a cell of IPython is run in a shell."""
    text = (ROOT / "docs/integrations.md").read_text("utf-8")
    found: dict[str, str] = {}
    for kind, block in re.findall(r"```(python|python continued|ipython)\n(.*?)```", text, re.S):
        if kind == "python":
            found["transformers" if "transformers" in block else "lightning"] = block
        elif kind == "python continued":
            found["transformers"] += block
        else:
            cell = f"assert shell.run_cell({block!r}).success\n"
            shell = "from IPython.core.interactiveshell import InteractiveShell\nshell = InteractiveShell()\n"
            found["IPython"] = found.get("IPython", shell) + cell
    return found
