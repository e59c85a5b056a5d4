# Everything runs in a virtual environment of its own, .venv; `make demo` and `make test` make it.

PYTHON ?= python3
# Tests start Python some hundred times: each module is compiled once, and not in each of them.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
BIN := $(VENV)/bin
CONTRACT := .venv-torchtune
STAMP := $(VENV)/.installed
# pip may fail on a passing fault of the network: try three times.
RETRY := scripts/retry

.PHONY: demo test test-long test-all check structure format contract slurm modules kit package page bundle tokens facts codes golden fuzz hostile faults bench explore mutation clean

demo: $(STAMP)  ## scaffold the bundled example into demo/
	@$(BIN)/scaffold-torchtune demo demo

test: $(STAMP)  ## what every behaviour needs, in minutes; with COVERAGE=1 branch coverage of at least 95 %, too
	$(BIN)/python -m pytest -n 2 $(if $(COVERAGE),--cov --cov-report=term-missing:skip-covered)

test-long: $(STAMP)  ## what takes long: a sample of mutants, fuzzing, a kill at every point, all examples, 50 runs
	scripts/install_strace
	HYPOTHESIS_PROFILE=all $(BIN)/python -m pytest -n 2 -m 'long or examples'

test-all: test test-long  ## all tests that need nothing but Python

check: $(STAMP)  ## lint, format, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

structure:  ## how the package is cut into modules, beside the bounds
	$(PYTHON) scripts/structure.py

format: $(STAMP)  ## format and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

contract: $(CONTRACT)/.installed  ## tests against the real torchtune 0.6.1 (1.5 GB), a true training among them
	$(CONTRACT)/bin/python -m pytest tests/contract -m torchtune -p no:cacheprovider

slurm: $(STAMP)  ## tests against a real Slurm of one node, which they start and end; installs it where it can
	scripts/install_slurm
	$(BIN)/python -m pytest tests/slurm -m slurm

modules: $(STAMP)  ## tests against real Environment Modules and Lmod; installs them where it can
	scripts/install_modules
	$(BIN)/python -m pytest tests/modules -m modules

kit: $(STAMP)  ## tests with the real setup scripts of a clone of cruijff_kit, which SCAFFOLD_TORCHTUNE_CRUIJFF_KIT names
	$(BIN)/python -m pytest tests/cruijff_kit -m kit

package: $(STAMP)  ## tests with real hosts and checkers (Claude Code, Inspector, mcpb, uv, ...), which it installs (1.3 GB)
	scripts/install_package_tools
	$(BIN)/python -m pytest tests/package -m package

page: $(STAMP)  ## tests that look at pages of `report` in a real Chromium, with an accessibility checker; installs them where it can
	scripts/install_browser
	$(RETRY) $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,page]'
	$(BIN)/python -m pytest tests/page -m page

bundle: $(STAMP)  ## the MCP bundle, dist/scaffold-torchtune-VERSION.mcpb
	scripts/install_package_tools
	$(BIN)/python scripts/make_bundle.py

tokens: $(STAMP)  ## what tools, skill and whole scaffolds cost in tokens, against their bounds
	scripts/install_package_tools
	$(BIN)/python benchmarks/tokens.py

facts: $(CONTRACT)/.installed  ## write torchtune's facts anew from the installed torchtune
	$(CONTRACT)/bin/python scripts/regenerate_torchtune_facts.py

codes: $(STAMP)  ## write the tables of workflows/troubleshooting.md anew from the registry of finding codes
	$(BIN)/python scripts/write_troubleshooting.py

golden: $(STAMP)  ## write the golden files anew; look at the difference before you commit it
	UPDATE_GOLDEN=1 $(BIN)/python -m pytest -q tests/pipeline/test_scaffold.py \
		tests/pipeline/test_history.py tests/pipeline/test_explain.py tests/setup/test_setup_finetune.py \
		tests/cli/test_screens.py

fuzz: $(STAMP)  ## 100,000 mutated documents: each a plan or a refusal, within a second and 200 MB
	$(BIN)/python tests/fuzz_documents.py --count $(or $(COUNT),100000)

hostile: $(STAMP)  ## 20,000 damaged files of each kind that is read: none is more than a reason or a refusal
	HOSTILE_FILES=$(or $(COUNT),20000) $(BIN)/python -m pytest -q -n 2 -m long --timeout 7200 \
	  tests/preflight/test_disk_hostile.py tests/pipeline/test_hostile_state.py tests/preflight/test_hostile_data.py

faults: $(STAMP)  ## kills and errors at each call that changes the disk, races, hostile values and frames, memory: the counts
	scripts/install_strace
	$(BIN)/python tests/faults.py $(if $(SAMPLE),--sample $(SAMPLE)) $(if $(SEED),--seed $(SEED))

bench: $(STAMP)  ## what planning and a second scaffold take, and what validating costs beside scaffolding, for 100 runs
	$(BIN)/python benchmarks/plan_time.py
	$(BIN)/python benchmarks/validate_share.py

explore: $(STAMP)  ## the property tests on examples of their own choice, not the fixed ones
	HYPOTHESIS_PROFILE=default $(BIN)/python -m pytest -n 2 -q tests

mutation: $(STAMP)  ## break each check, one place at a time: do its tests see it? (ten minutes on two cores)
	$(BIN)/python tests/mutation.py

clean:
	rm -rf $(VENV) $(CONTRACT) .lmod .package-tools .page-tools dist demo .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(RETRY) $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(CONTRACT)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(CONTRACT)
	$(RETRY) $(CONTRACT)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(RETRY) $(CONTRACT)/bin/python -m pip install --quiet --disable-pip-version-check torchtune==0.6.1 torchao==0.14.1
	$(RETRY) $(CONTRACT)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . pytest pytest-timeout hypothesis 'wandb>=0.31,<0.32'
	@touch $@
