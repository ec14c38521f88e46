# `make help` lists the targets; each makes and uses .venv by itself.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
SEEDS  ?= 20
BLOCKS ?= 4
WALKS  ?= 5000
SCENARIOS ?= 300
FUZZ_SECONDS ?= 20
KILLS  ?= 1000
MINUTES ?= 10

.PHONY: help dev test citations lint format sim exhaustive mutants twins crashes failover equivocator drill
.PHONY: soak bench sanitize fuzz native lock clean

help: ## what each target does
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/ready: requirements.lock pyproject.toml
	@echo "== making $(VENV) from requirements.lock"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --upgrade pip
	$(PY) -m pip install --quiet --require-hashes --no-deps -r requirements.lock
	@touch $@

$(VENV)/built: $(VENV)/ready pyproject.toml $(wildcard native/*/*.[ch] native/doors/*)
	@echo "== building dipnet._native"
	@PYTHONWARNINGS=ignore $(PY) -m pip install --quiet --no-deps --no-build-isolation --editable . \
	  2> $(VENV)/build.log || { cat $(VENV)/build.log; exit 1; }
	@touch $@

native: $(VENV)/built ## build the native doors

dev: $(VENV)/built ## a one-node chain on 127.0.0.1:8545 with ten funded accounts
	$(VENV)/bin/dipnetd dev

test: $(VENV)/built ## the whole test suite, on all processors
	$(PY) -m pytest -q -n auto --dist loadgroup --durations=20

citations: $(VENV)/built ## every citation in code, tests and docs resolves; prints their count
	$(PY) -m pytest -q -s tests/docs/test_citations.py

lint: $(VENV)/built ## ruff, and mypy over dipnet, tests and benchmarks
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) -m mypy

format: $(VENV)/ready ## rewrite the sources as ruff likes them
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

sim: $(VENV)/built ## SEEDS=n seeds of the simulator, the first 200 under two hash seeds
	$(PY) -m tests.sim.run --seeds $(SEEDS)

exhaustive: $(VENV)/built ## finality over every tree of BLOCKS=n blocks (4: seconds, 5: 20 minutes)
	$(PY) -m tests.search.exhaustive_run --blocks $(BLOCKS) --walks $(WALKS)

twins: $(VENV)/built ## SCENARIOS=n of a delegate that runs twice among partitions (300: a minute)
	$(PY) -m tests.search.twins_run --scenarios $(SCENARIOS)

mutants: $(VENV)/built ## every rule broken once, and what caught it; fails if one survives
	$(PY) -m tests.mutants.run

crashes: $(VENV)/built ## KILLS=n kills of a signer at random points, modelled and real
	$(PY) -m tests.processes.crash_points_run --kills $(KILLS)

failover: KILLS = 100
failover: $(VENV)/built ## KILLS=n fail-overs of two hot nodes on one remote signer
	$(PY) -m tests.processes.failover_run --kills $(KILLS)

equivocator: $(VENV)/built ## a delegate that signs twice, in each way, punished by real processes
	$(PY) -m tests.processes.equivocation_run

drill: $(VENV)/built ## seven real nodes elect, lose and get back delegates, and are watched; minutes
	$(PY) -m tests.processes.drill_run

soak: $(VENV)/built ## MINUTES=n of seven real nodes under load, of which up to two are killed all the time
	$(PY) -m tests.processes.soak_run --minutes $(MINUTES)

bench: $(VENV)/built ## the benchmarks, each beside its limit
	$(PY) -m benchmarks

sanitize: ## the native tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@$(MAKE) --no-print-directory -C native sanitize

fuzz: $(VENV)/built ## FUZZ_SECONDS=n seconds for each decoder, in C by libFuzzer; needs clang
	$(PY) -m tests.fuzz.decoders --seconds $(FUZZ_SECONDS)
	@$(MAKE) --no-print-directory -C native fuzz FUZZ_SECONDS=$(FUZZ_SECONDS)

lock: $(VENV)/ready ## write requirements.lock anew from pyproject.toml
	$(PY) -m pip install --quiet uv
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --extra dev --override requirements.overrides \
	  --output-file requirements.lock pyproject.toml

clean: ## remove everything that can be made again
	rm -rf $(VENV) build *.egg-info dipnet/_native/*.so native/doors/*.c native/build
