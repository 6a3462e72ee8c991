PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test check boot lab format simulate mutants bench clean

help: ## Say what each target does
	@grep -E '^[a-z]+:.*## ' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(VENV)/installed: pyproject.toml constraints.txt examples/tiny-lm/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --editable . --requirement examples/tiny-lm/requirements.txt
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) --editable '.[dev]'
	@touch $@

# The examples that train with torch have an environment of their own, so that nothing else depends on theirs.
EXAMPLES := $(VENV)/examples
WANTED := $(wildcard examples/*/requirements.txt)

$(VENV)/installed-examples: examples/constraints.txt $(WANTED)
	$(PYTHON) -m venv $(EXAMPLES)
	$(EXAMPLES)/bin/python -m pip install --quiet --disable-pip-version-check --constraint examples/constraints.txt \
	    $(addprefix --requirement ,$(WANTED))
	@touch $@

demo: $(VENV)/installed ## Train a small language model here, under a cap, and show what it cost
	cd examples/tiny-lm && PATH="$(CURDIR)/$(BIN):$$PATH" GPULAUNCH_HOME="$(CURDIR)/build/demo" \
	    gpulaunch up --provider local --yes

# The decisions and the loop that carries them out: every branch of them is taken by a unit test.
COVERED := launcher/budget.py,launcher/policy.py,launcher/ledger.py,launcher/plan.py,launcher/guard.py,launcher/creation.py,launcher/agent_word.py

# Commands, trainings and machines mostly wait, so more of them than there are cores are tested at a time.
test: $(VENV)/installed-dev $(VENV)/installed-examples ## Run every test; the unit tests cover every branch of the decisions
	$(BIN)/python -m coverage run -m pytest tests/unit
	$(BIN)/python -m coverage report --include='$(COVERED)' --fail-under=100 --show-missing
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --ignore=tests/unit

check: $(VENV)/installed-dev ## Lint, types, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

boot: $(VENV)/installed-dev ## Boot Debian machines with the real boot data (root, debootstrap, systemd-container)
	sh tests/boot/run.sh $(BIN)/python

lab: $(VENV)/installed-dev ## A whole cloud in small: machines booted by the installed command (as boot; LAB=long adds the cap)
	GPULAUNCH_LAB="$(LAB)" sh tests/lab/run.sh $(BIN)/python

format: $(VENV)/installed-dev ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

simulate: $(VENV)/installed-dev ## Many seeded worlds with faults at every boundary: make simulate RUNS=100000 SEED=1
	RUNS="$(or $(RUNS),1000)" SEED="$(SEED)" VERBOSE="$(VERBOSE)" $(BIN)/python tests/simulation/simulate.py

mutants: $(VENV)/installed-dev ## Show that the simulation finds each planted mistake
	RUNS="$(RUNS)" SEED="$(SEED)" $(BIN)/python tests/simulation/mutants.py

bench: $(VENV)/installed-dev ## Measure start-up, and what the agent costs
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/agent.py
	$(BIN)/python benchmarks/checkpoint.py
	$(BIN)/python benchmarks/guard.py
	$(BIN)/python benchmarks/launch.py

clean: ## Remove what the targets above made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
