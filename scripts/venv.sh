#!/bin/sh
# Makes a virtual environment if there is none that works, and installs into it.
# Usage: PYTHON=python3 scripts/venv.sh FOLDER PIP_ARGUMENT...   for example: scripts/venv.sh .venv install -e .
# Works on Debian without python3-venv too, where `python3 -m venv` can't put pip into an environment.
set -eu
unset PIP_PREFIX PIP_ROOT PIP_TARGET PIP_USER PYTHONHOME PYTHONPATH  # these would have pip install elsewhere, or find things there

folder=$1
shift
python=${PYTHON:-python3}

fail() {
    echo "$1" >&2
    exit 2
}

if ! "$folder/bin/python" -c '' 2>/dev/null; then
    command -v "$python" >/dev/null || fail "There is no '$python'. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "hpcnn needs Python 3.11 or newer, but '$python' is $("$python" --version). Name another: make PYTHON=/path/to/python3"
    rm -rf "$folder"
    if "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        "$python" -m venv "$folder"
    elif "$python" -m pip --version >/dev/null 2>&1; then
        "$python" -m venv --without-pip "$folder"
    else
        fail "'$python' can't make virtual environments: it has neither ensurepip nor pip. On Debian and Ubuntu: apt install python3-venv"
    fi
fi

if "$folder/bin/python" -c 'import pip' 2>/dev/null; then
    exec "$folder/bin/python" -m pip --disable-pip-version-check "$@"
fi
exec "$python" -m pip --disable-pip-version-check --python "$folder/bin/python" "$@"
