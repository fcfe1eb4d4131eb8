"""Python modules as programs of their own. Imports no torch."""

import sys
from pathlib import Path


def module_command(module: str) -> list[str]:
    """The command that runs it. `-m` puts the working directory first in the module path; not so
    here unless it is in ours, as a file there could stand in for a library's."""
    safe_path = [] if "" in sys.path or str(Path.cwd()) in sys.path else ["-P"]
    return [sys.executable, *safe_path, "-m", module]
