# Everything runs in a virtual environment, .venv, which `make` creates. `make demo` installs only the runtime dependencies.

PYTHON ?= python3
# The tests start Python several hundred times; with compiled files each module is compiled only once.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
CONTRACT := .venv-torchtune
# What the product needs, and with it what its development needs.
RUNTIME := $(VENV)/.runtime
STAMP := $(VENV)/.installed
# Try three times, because pip may fail on a transient network error.
RETRY := scripts/retry

.PHONY: demo test test-long test-all check structure format contract slurm modules kit package page bundle tokens facts codes labels golden fuzz hostile faults bench growth explore mutation clean

demo: $(RUNTIME)  ## scaffold the bundled example into demo/
	@$(BIN)/scaffold-torchtune demo demo

test: $(STAMP)  ## test every behaviour except faults; COVERAGE=1 also requires 95 % branch coverage
	$(BIN)/python -m pytest -n 2 $(if $(COVERAGE),--cov --cov-report=term-missing:skip-covered)

test-long: $(STAMP)  ## run the long tests: a sample of mutants, kill points and examples, fuzzing, 50 runs
	scripts/install_packages strace
	HYPOTHESIS_PROFILE=all $(BIN)/python -m pytest -n 2 -m 'long or examples'

test-all: export EVERY := 1
test-all: test test-long  ## run all tests that need only Python, and every case instead of a fixed sample

check: $(STAMP)  ## check lint rules, format, types, import layers and words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/check_words.py

structure:  ## show how the package is divided into modules, with the bounds
	$(PYTHON) scripts/structure.py

format: $(STAMP)  ## format the code and apply automatic fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

contract: $(CONTRACT)/.installed  ## test against the real torchtune 0.6.1 (1.5 GB), including a real training
	$(CONTRACT)/bin/python -m pytest tests/contract -m torchtune -p no:cacheprovider

slurm: $(STAMP)  ## test against a real one-node Slurm, which the tests start and stop; installs it if possible
	scripts/install_slurm
	$(BIN)/python -m pytest tests/slurm -m slurm

modules: $(STAMP)  ## test against real Environment Modules and Lmod; installs them if possible
	scripts/install_modules
	$(BIN)/python -m pytest tests/modules -m modules

kit: $(STAMP)  ## test with the setup scripts of a clone of cruijff_kit at SCAFFOLD_TORCHTUNE_CRUIJFF_KIT
	$(BIN)/python -m pytest tests/cruijff_kit -m kit

package: $(STAMP)  ## test with real hosts and checkers (Claude Code, Inspector, mcpb, uv, ...); installs them (1.3 GB)
	scripts/install_package_tools
	$(BIN)/python -m pytest tests/package -m package

page: $(STAMP)  ## test the page of `report` in a real Chromium, with an accessibility checker; installs them if it can
	scripts/install_browser
	$(RETRY) $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,page]'
	$(BIN)/python -m pytest tests/page -m page

bundle: $(STAMP)  ## build the MCP bundle, dist/scaffold-torchtune-VERSION.mcpb
	scripts/install_package_tools
	$(BIN)/python scripts/make_bundle.py

tokens: $(STAMP)  ## count the tokens of the tools, the skill and whole scaffolds, and compare them with their bounds
	scripts/install_package_tools
	$(BIN)/python benchmarks/tokens.py

facts: $(CONTRACT)/.installed  ## generate torchtune's facts from the installed torchtune
	$(CONTRACT)/bin/python scripts/regenerate_torchtune_facts.py

codes: $(STAMP)  ## generate the tables of workflows/troubleshooting.md from the registry of finding codes
	$(BIN)/python scripts/write_troubleshooting.py

labels: $(STAMP)  ## generate the tables of workflows/labels.md from the table of parameters
	$(BIN)/python scripts/write_labels.py

golden: $(STAMP)  ## generate the golden files again; review the diff before you commit it
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q -m "" tests/pipeline/test_scaffold.py \
		tests/pipeline/test_history.py tests/pipeline/test_explain.py tests/setup/test_setup_finetune.py \
		tests/cli/test_screens.py

fuzz: $(STAMP)  ## read 100,000 mutated documents: each gives a plan or a refusal, within a second and 200 MB
	$(BIN)/python tests/fuzz_documents.py --count $(or $(COUNT),100000)

hostile: $(STAMP)  ## read 20,000 damaged files of each kind: each gives at most a finding or a refusal
	HOSTILE_FILES=$(or $(COUNT),20000) $(BIN)/python -m pytest -q -n 2 --dist worksteal -m long --timeout 7200 \
	  tests/preflight/test_disk_hostile.py tests/pipeline/test_hostile_state.py \
	  tests/pipeline/test_hostile_status.py tests/preflight/test_hostile_data.py

faults: $(STAMP)  ## count the results of kills, disk errors, races, hostile values and frames, and memory limits
	scripts/install_packages strace
	$(BIN)/python tests/faults.py $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED))

bench: $(STAMP)  ## time planning, a second scaffold, and validation compared with scaffolding, for 100 runs
	$(BIN)/python benchmarks/plan_time.py
	$(BIN)/python benchmarks/validate_share.py

growth: $(STAMP)  ## measure how processor time grows with documents, started runs and changes; needs a quiet machine
	$(BIN)/python benchmarks/growth.py

explore: $(STAMP)  ## run the property tests on new examples instead of the fixed ones
	HYPOTHESIS_PROFILE=default $(BIN)/python -m pytest -n 2 -q tests

mutation: $(STAMP)  ## break each check, one place at a time, and list what no test notices (ten minutes on two cores)
	$(BIN)/python tests/mutation.py

clean:
	rm -rf $(VENV) $(CONTRACT) .lmod .package-tools .page-tools dist demo .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(RUNTIME): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(RETRY) $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(STAMP): $(RUNTIME)
	$(RETRY) $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(CONTRACT)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(CONTRACT)
	$(RETRY) $(CONTRACT)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(RETRY) $(CONTRACT)/bin/python -m pip install --quiet --disable-pip-version-check torchtune==0.6.1 torchao==0.14.1
	$(RETRY) $(CONTRACT)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . pytest pytest-timeout hypothesis 'wandb>=0.31,<0.32'
	@touch $@
