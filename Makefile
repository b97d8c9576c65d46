# Both main commands do all their set-up by themselves, in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
REAL := .venv-real

.PHONY: demo test test-slow test-real engines training models environments lint bench compat schema clean

demo: $(STAMP)            ## diagnose the bundled example log
	$(BIN)/llmdoctor diagnose docs/examples/kv-cache.log --fail-on never

test: $(STAMP)            ## the test suite
	$(BIN)/python -m pytest -q -n auto -m "not slow and not real"

test-slow: $(STAMP)       ## what takes minutes
	$(BIN)/python -m pytest -q -m "slow and not real"

test-real: $(REAL)/.installed    ## against torch, transformers and, if LLMDOCTOR_LLAMA_SERVER names it, llama.cpp's server
	LLMDOCTOR_REAL_PYTHON=$(CURDIR)/$(REAL)/bin/python $(REAL)/bin/python -m pytest -q -m real

engines: $(STAMP)         ## read the tables in dataset/engines anew out of the engines' packages
	$(BIN)/python dataset/engines/refresh.py

training: $(STAMP)        ## read the tables in dataset/training anew out of the frameworks' packages
	$(BIN)/python dataset/training/refresh.py

models: $(REAL)/.installed       ## make the tiny models in tests/models/folders again
	$(REAL)/bin/python -m tests.models.build

lint: $(STAMP)            ## ruff, mypy --strict, and the rules' own linter
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/llmdoctor rules lint

bench: $(STAMP)           ## start-up, throughput and check, as ratios
	$(BIN)/python tests/benchmarks/run.py
	$(BIN)/python tests/benchmarks/check.py
	$(BIN)/python tests/benchmarks/model.py
	$(BIN)/python tests/benchmarks/data.py
	$(BIN)/python tests/benchmarks/run_overhead.py

environments: $(STAMP)    ## check environments built of real wheels, healthy and broken ones
	$(BIN)/python tests/environments/build.py

compat: $(STAMP)          ## read the tables in dataset/compat anew from the package index
	$(BIN)/python dataset/compat/refresh.py

schema: $(STAMP)          ## write docs/diagnosis.schema.json again
	$(BIN)/python -c "import json; from diagnose.formats.json import schema; print(json.dumps(schema(), indent=2))" > docs/diagnosis.schema.json

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $(STAMP)

$(REAL)/.installed: pyproject.toml
	$(PYTHON) -m venv $(REAL)
	$(REAL)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,real]'
	@touch $(REAL)/.installed

clean:
	rm -rf $(VENV) $(REAL) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
