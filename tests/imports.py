"""Show what an import loads."""

import subprocess
import sys


def loaded_by(statement: str) -> set[str]:
    """Top-level packages in a new interpreter after a statement."""
    code = f"{statement}; import sys; print(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {*result.stdout.split()}
