# One door for every task. `make` alone lists them; all they need is python3 (3.11 or newer), its venv module and make.
# Every target builds its own virtual environment in .venv, with the exact versions of .ci/requirements/ (hashes checked), and
# does so again when these or pyproject.toml have changed.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo check unit test wheel bench profile cluster campaign clean

PYTHONS := $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11)
python := .venv/bin/python
# The project itself is built by the pinned hatchling of .venv, not by whichever one is the newest today.
pip := -m pip install --quiet --disable-pip-version-check --no-deps
locked := $(pip) --require-hashes --requirement .ci/requirements
itself := $(python) $(pip) --no-build-isolation --editable .

KILLS ?= 1000
# The suite starts the program thousands of times: each would compile it again where an environment forbids to keep that.
unit test cluster campaign: export PYTHONDONTWRITEBYTECODE =
# Tests wait for daemons and servers: units run in twice as many processes as there are processors, the whole suite in three
# times as many, of which every second one begins with tests that mostly wait (tests/support/order.py).
processes = $(or $(WORKERS),$(shell $(firstword $(PYTHONS)) -c 'import os; print(round($(1) * (os.cpu_count() or 1)))'))

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: .venv/runtime ## the real job against a stand-in of the operator, into ./demo/, in under a minute
	@$(python) -m cdrsync demo $(ARGS)

check: .venv/development ## lint, format, types and architecture
	$(python) -m ruff check
	$(python) -m ruff format --check
	$(python) -m mypy
	.venv/bin/lint-imports
	.venv/bin/yamllint deploy
	.venv/bin/kubernetes-validate --strict --quiet $(filter-out %/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml))
	@if [ -x .venv/bin/hadolint ]; then .venv/bin/hadolint deploy/container/Dockerfile; \
	else echo "hadolint: no wheel for this machine, the Dockerfile is not linted"; fi

unit: .venv/development ## the part of the suite that needs no database server
	@$(python) -m pytest -n $(call processes,2) --dist loadgroup -m "not server" tests/unit tests/contract tests/integration tests/property $(ARGS)

test: .venv/development ## the whole suite, on all processors; ARGS='-k lease -x' goes to pytest
	@$(python) -m pytest -n $(call processes,3) --dist loadgroup $(ARGS)

wheel: .venv/development ## wheel, source archive and bill of materials (CycloneDX), into dist/
	@$(python) -m hatchling build --clean --directory dist --target sdist --target wheel
	@$(python) -m cyclonedx_py requirements .ci/requirements/image.txt --pyproject pyproject.toml --output-reproducible \
	    --output-file dist/cdrsync.cdx.json

bench: .venv/development .venv-bench/peers ## measure: cdrsync beside its peers, half an hour; ARGS=--quick: a minute
	@$(python) -m tests.benchmarks.bench $(ARGS)

profile: .venv/development ## where a catch-up spends its time, by thread and line: ARGS='--database sqlite'
	@$(python) -m tests.benchmarks.profile_sync $(ARGS)

cluster: .venv/development ## real clusters and poolers: Patroni, Galera, PgBouncer, Citus
	@$(python) -m pytest -q -n 3 --dist loadgroup tests/cluster $(ARGS)

campaign: .venv/development ## kill -9 at random moments on every database: make campaign KILLS=1000
	@$(python) -m tests.fault.campaign --kills $(KILLS) $(ARGS)

clean: ## remove .venv and everything that the other targets made
	rm -rf .venv .venv-bench dist build demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find cdrsync migrations tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/created:
	@for python in $(PYTHONS); do \
	    if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; python=; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "cdrsync needs Python 3.11 or newer, and found none among: $(PYTHONS)." >&2; \
	    echo "If it is somewhere else: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	"$$python" -m venv .venv || { echo "Python's venv module is missing; Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@touch $@

.venv/runtime: .venv/created pyproject.toml .ci/requirements/runtime.txt
	@echo "Installing cdrsync and what it runs on into .venv (once) …"
	@$(python) $(locked)/runtime.txt
	@$(itself)
	@touch $@

.venv/development: .venv/runtime .ci/requirements/development.txt
	@echo "Installing the drivers and the tools of tests and checks into .venv (once) …"
	@$(python) $(locked)/development.txt
	@touch $@

# The peers that `make bench` measures against never meet cdrsync's own environment.
.venv-bench/peers: .venv/development .ci/requirements/bench.txt
	@echo "Installing the benchmark's peers into .venv-bench (once) …"
	@$(python) -m venv .venv-bench
	@.venv-bench/bin/python $(locked)/bench.txt
	@touch $@
