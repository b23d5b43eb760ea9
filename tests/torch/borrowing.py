"""Runs a module in an environment without PyTorch, which comes from another one of the same Python.

    python -m tests.torch.borrowing FOLDER MODULE

FOLDER is searched last: MPI and all else come from where this runs.
"""

from __future__ import annotations

import runpy
import sys

if __name__ == "__main__":
    _, folder, module, *sys.argv[1:] = sys.argv
    sys.path.append(folder)
    runpy.run_module(module, run_name="__main__")
