# `make` alone lists what there is. Everything runs in .venv, which the first target makes.
.DEFAULT_GOAL := help
.PHONY: help run test guarantees lint fmt docs bench constraints clean

PY := .venv/bin/python
CHAOS ?=
ARGS ?=
# Tests run in so many processes, each with a Ray and servers of its own: much of a test is waiting.
JOBS ?= 2
DISTRIBUTED = -n $(JOBS) --dist loadfile --no-loadscope-reorder
export PYTHONPATH := $(CURDIR)
# Ray's workers would else be niced below everything else on the machine, the swarm included.
export RAY_worker_niceness ?= 0

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):[^#]*## /  make \1\t/' | expand -t 20

run: .venv/installed ## audit your Python's libraries on a local swarm (CHAOS=1: kill parts of it half way)
	@$(PY) -m examples.stdlib_audit.main $(if $(filter-out 0,$(CHAOS)),--chaos) $(ARGS)

test: .venv/installed-dev ## run all tests (ARGS="-k name" for some)
	@$(PY) -m pytest $(DISTRIBUTED) $(ARGS)

guarantees: .venv/installed-dev ## only those that kill, stop and tear a real swarm
	@$(PY) -m pytest tests/guarantees $(ARGS)

lint: .venv/installed-dev ## check style, types and the direction of imports
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

fmt: .venv/installed-dev ## format the code and mend what can be mended
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

proto: .venv/installed-dev ## make the region link's messages and stubs from their .proto
	@$(PY) -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. \
		chimera/actors/control/v1/control.proto

docs: .venv/installed-dev ## make docs/cli.md from the commands
	@$(PY) -m chimera.cli.reference > docs/cli.md

bench: .venv/installed-dev ## measure the budgets (ARGS=NAME for one of benchmarks/)
	@$(PY) -m benchmarks $(ARGS)

constraints: ## pin the newest versions that fit (needs uv)
	@uv pip compile pyproject.toml --all-extras --universal --python-version 3.10 --quiet \
		--upgrade --no-emit-index-url --no-header --no-annotate --output-file constraints.new
	@{ echo '# Known-good versions of everything, every extra included. Made by `make constraints`.'; \
		cat constraints.new; } > constraints.txt && rm constraints.new

clean: ## remove the environment, caches and build products
	@rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis \
		.import_linter_cache .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/installed: pyproject.toml constraints.txt .ci/venv
	@echo "Setting up .venv: Ray and what else Chimera needs, a minute or two the first time ..."
	@.ci/venv .venv '.[swarm]'
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Adding the tools for tests and lint to .venv ..."
	@.ci/venv .venv '.[dev]'
	@touch $@
