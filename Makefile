# The tasks of a checkout. They need Python 3.11 or later, make and git; everything else is set up
# in .venv from requirements.lock, whose hashes are checked, and again whenever that file changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SET_UP := $(VENV)/.set-up

# For `make run`: the folder to watch, and the ports of the routes (8000) and of Ray's dashboard
# (8265). ARGS has more arguments, such as `--num-cpus 4`.
WHEELS ?= wheels
PORT ?=
DASHBOARD_PORT ?=
PORTS = $(if $(PORT),--port $(PORT)) $(if $(DASHBOARD_PORT),--dashboard-port $(DASHBOARD_PORT))

# For `make test`: more arguments for pytest. Two workers have the tests that share a Ray head, one those
# of the system, the others the rest. All wait for much of the time, so that four keep two cores busy.
# Tests of the system boot a systemd of their own, for which the kernel must give namespaces to root;
# `python3 tests/support/systemd.py` says if it does.
ARGS ?=
WORKERS ?= 4
MARKS = $(shell $(BIN)/python tests/support/systemd.py >&2 || echo "-m 'not system'")

# What Python compiled is kept, whatever the environment says: the tests start hundreds of processes,
# and Ray's modules take two seconds each time otherwise.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.PHONY: help run demo-codeartifact examples test explore test-examples check format lint types layers bench lock set-up clean

BUILD := $(BIN)/uv build --quiet --wheel --no-build-isolation --python $(BIN)/python \
  --out-dir build/examples

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: examples ## Serve the examples and whatever is dropped into wheels/ (PORT, DASHBOARD_PORT, ARGS)
	@exec $(BIN)/wheelway up '$(WHEELS)' $(PORTS) $(ARGS)

demo-codeartifact: $(SET_UP) ## Publish to a stand-in of AWS CodeArtifact, and see the route
	@rm -rf build/examples && $(BUILD) examples/greeter
	@exec $(BIN)/python -m demos.codeartifact build/examples/*.whl $(PORTS) $(ARGS)

# A wheel is renamed into the folder, as a publisher should, and only if its content is new.
examples: $(SET_UP) ## Build the example pipelines into wheels/
	@mkdir -p '$(WHEELS)' && rm -rf build/examples
	@for example in greeter iris; do \
	  $(BUILD) examples/$$example || exit 1; \
	done
	@for wheel in build/examples/*.whl; do \
	  there='$(WHEELS)'/$${wheel##*/}; \
	  cmp -s "$$wheel" "$$there" || { cp "$$wheel" "$$there.part" && mv "$$there.part" "$$there"; }; \
	done

test: $(SET_UP) ## Run the tests; for instance ARGS="-m unit"
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder \
	  $(MARKS) $(ARGS)

explore: $(SET_UP) ## Seek random histories that break the rules, others each time; takes minutes
	@$(BIN)/python -m pytest -q tests/unit/test_rollout_histories.py tests/unit/test_weights_histories.py --hypothesis-profile=explore $(ARGS)

# Some need nothing but what .venv has; others get what they require into environments of their own.
test-examples: $(SET_UP) ## Run the examples' own tests
	@for example in greeter legacy_fastapi; do \
	  $(BIN)/python -m pytest -q examples/$$example/tests || exit 1; \
	done
	@for example in detector iris iris_weights rag scorecard; do \
	  (cd examples/$$example && \
	    ../../$(BIN)/uv run --quiet --python ../../$(BIN)/python pytest -q) || exit 1; \
	done

check: lint types layers test-examples test ## Everything that must pass: form, types, layers, tests

format: $(SET_UP) ## Bring the code into form
	@$(BIN)/ruff check --fix --quiet && $(BIN)/ruff format

lint: $(SET_UP) ## Check form and rules
	@$(BIN)/ruff format --check && $(BIN)/ruff check

types: $(SET_UP) ## Check types
	@$(BIN)/mypy

layers: $(SET_UP) ## Check that imports point one way
	@$(BIN)/lint-imports

bench: $(SET_UP) ## Measure against the floor and the rivals; takes minutes
	@for benchmark in drop_to_live request_path stream_latency batching parts upgrade_under_load \
	  weights_swap poll_cost pass_cost command_start; do \
	  $(BIN)/python benchmarks/$$benchmark.py || exit 1; \
	done

lock: $(SET_UP) ## Lock the dependencies anew; ARGS="--upgrade" to take newer ones
	@$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-annotate --universal \
	  --python-version 3.11 --extra controller --extra dev $(ARGS) \
	  pyproject.toml --output-file requirements.lock

set-up: $(SET_UP) ## Make .venv ready, which all others do by themselves

$(SET_UP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: Python 3.11 or later is needed, '$(PYTHON)' is $$($(PYTHON) --version 2>&1);" \
	    "name another one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: '$(PYTHON)' cannot make virtual environments; on Debian and Ubuntu:" \
	    "apt install python3-venv" >&2; exit 1; }
	@echo "setting up $(VENV) from requirements.lock ..."
	@$(PYTHON) -m venv $(VENV)
	@awk '/^[^ ]/ { wanted = /^uv==/ } wanted' requirements.lock > $(VENV)/uv.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes \
	  --requirement $(VENV)/uv.lock
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --compile-bytecode \
	  requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

clean: ## Remove .venv and what tools left; wheels/, pipelines_cache/ and .wheelway/ stay
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache \
	  .hypothesis .coverage $(foreach left,.venv .pytest_cache dist uv.lock,examples/*/$(left))
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
