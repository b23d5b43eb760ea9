#!/bin/sh
# Installs hpcnn with MPICH, and what it is compared with, into benchmarks/.venv.
# Usage: benchmarks/install.sh
#   PYTHON       the Python to use (python3)
#   TORCH        the PyTorch to install (torch), for example torch==2.13.0
#   TORCH_INDEX  where pip finds it (PyTorch's builds for CPUs); empty: where pip looks for everything else
set -eu
cd "$(dirname "$0")/.."

torch_index=${TORCH_INDEX-https://download.pytorch.org/whl/cpu}

echo "Installing hpcnn and MPICH into benchmarks/.venv ..."
scripts/venv.sh benchmarks/.venv install --quiet -e '.[mpi]'
echo "Installing PyTorch ..."
scripts/venv.sh benchmarks/.venv install --quiet ${torch_index:+--index-url "$torch_index"} "${TORCH:-torch}"
benchmarks/.venv/bin/python -c 'import numpy, torch; print(f"numpy {numpy.__version__}, torch {torch.__version__}")'
