# make            the environment in .venv, exactly requirements.lock
# make run        tune a first network (STUDY=path/to/study.yaml for yours)
# make test       every test, two processes
# make check      style and types
# make bench      the benchmarks, results in benchmarks/records/
# make soak       the long loops: 50 random kills, 100 replays (a quarter of an hour)
# make ui         MLflow and Prefect in the browser, on this machine only
# make lock       resolve pyproject.toml anew and pin what comes out

STUDY  ?= examples/01_digits.yaml
PYTHON ?= python3
BIN    := .venv/bin
TESTS  ?=

export OMP_NUM_THREADS ?= 1
export DO_NOT_TRACK = 1
export MLFLOW_DISABLE_TELEMETRY = true
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: all run test check bench soak ui lock clean
.DELETE_ON_ERROR:

all: .venv/project

# Re-made from nothing when the lock changes, so that it never holds what the lock does not.
.venv/lock: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lanewise needs Python 3.11 or newer")'
	@echo "making .venv from requirements.lock (about two minutes, once)"
	@$(PYTHON) -m venv --clear .venv
	@$(BIN)/python -m pip install -qq --requirement requirements.lock
	@touch $@

.venv/project: .venv/lock pyproject.toml
	@$(BIN)/python -m pip install -qq --no-deps --no-build-isolation --editable .
	@touch $@

run: .venv/project
	@$(BIN)/lanewise run $(STUDY)

test: .venv/project
	@$(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS)

check: .venv/project
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: .venv/project
	@set -e; for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file; done

soak: .venv/project
	@$(BIN)/python tests/soak/kill_loop.py
	@$(BIN)/python tests/soak/replay_hundred.py

ui: .venv/project
	@$(BIN)/lanewise ui

# torch is pinned here by hand: the newest release within pyproject's range that is built for CPU and CUDA.
lock:
	@set -e; dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; \
	  $(PYTHON) -m venv $$dir; \
	  $$dir/bin/python -m pip install -qq 'torch==2.13.0' '.[dev,server]'; \
	  { sed -n '/^#/p' requirements.lock; \
	    $$dir/bin/python -m pip freeze --all --exclude lanewise --exclude pip | sed 's/+cpu$$//'; } > $$dir/new; \
	  mv $$dir/new requirements.lock

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis dist build
