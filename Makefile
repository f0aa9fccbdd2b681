# Every target first installs what it needs into the virtual environment .venv.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The tested versions; none with CONSTRAINTS= on the command line.
CONSTRAINTS ?= constraints.txt
# Plain `torch` would install the newest CUDA build; this version has a CPU wheel. For another one:
# make TORCH=torch==2.12.0 CONSTRAINTS= demo
TORCH ?= $(shell sed -n "/^torch==/p" constraints.txt)
PYTEST_OPTIONS ?=
FUZZ_EXAMPLES ?= 5000
STATIC_TESTS := $(addprefix tests/test_,architecture.py sizes.py docs.py plain_english.py)
# The variables also apply to the build of overtile, for which pip makes a separate environment.
PIP := PIP_CONSTRAINT='$(CONSTRAINTS)' PIP_BUILD_CONSTRAINT='$(CONSTRAINTS)' \
  $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install $(if $(CONSTRAINTS),--constraint '$(CONSTRAINTS)')
# Names and versions of an environment, without the local part of a version, such as +cpu.
FREEZE := -m pip --disable-pip-version-check freeze --all --exclude-editable --exclude overtile --exclude pip \
  | sed -E 's/\+[[:alnum:].]+$$//' | LC_ALL=C sort -f
LOCKED := tests/test_dependencies.py::test_the_tests_run_with_the_versions_of_the_lock
NEWEST := .venv-newest
AUDIT := .venv-audit

.PHONY: demo test test-slow test-gpu test-slurm test-slurm-slow fuzz faults soak bench bench-long check format docs pictures lock newest audit help clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: $(VENV)/.installed  ## make a small volume, segment it, find its cells and score both
	$(BIN)/overtile demo

test: $(VENV)/.installed-dev  ## the tests, 10 to 20 minutes on two cores
	$(BIN)/python -m pytest -n 3 --dist loadfile -m "not gpu and not slow and not slurm and not faults" $(PYTEST_OPTIONS)

test-slow: $(VENV)/.installed-dev  ## the slow tests
	$(BIN)/python -m pytest -m "slow and not slurm"

test-gpu: $(VENV)/.installed-dev  ## the tests that need a CUDA device
	$(BIN)/python -m pytest -m gpu

test-slurm: $(VENV)/.installed-dev $(VENV)/.slurm  ## the tests on a real one-node Slurm, which is installed if possible
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "slurm and not slow" $(PYTEST_OPTIONS)

test-slurm-slow: $(VENV)/.installed-dev $(VENV)/.slurm  ## the slow tests on Slurm
	$(BIN)/python -m pytest -m "slurm and slow"

FAULT_RESULTS ?= fault-results
FAULT_ROUNDS ?= 3
KILL_ROUNDS ?= 100
# Both parts run to their end; the target fails if one of them does.
faults: $(VENV)/.installed-dev  ## the fault suite and kill-and-resume rounds, into fault-results/ (hours)
	mkdir -p $(FAULT_RESULTS)
	failed=0; out=$(abspath $(FAULT_RESULTS)); \
	FAULT_OUT=$$out/suite.jsonl FAULT_ROUNDS=$(FAULT_ROUNDS) \
	  $(BIN)/python -m pytest tests/faults tests/flows/prefect/test_killed_server.py || failed=1; \
	$(BIN)/python -m faults.kill_and_resume --rounds $(KILL_ROUNDS) --out $$out/rounds.jsonl || failed=1; \
	$(BIN)/python -m faults.matrix --suite $$out/suite.jsonl --rounds $$out/rounds.jsonl \
	  --matrix $$out/matrix.json --page $$out/matrix.md && cat $$out/matrix.md; exit $$failed

soak: $(VENV)/.installed-bench  ## a run with a kill every 10 s for 20 minutes, and its plot
	$(BIN)/python -m faults.soak --minutes 20 --every 10 --out faults/results/soak.json
	$(BIN)/python -m faults.plot

fuzz: $(VENV)/.installed-dev  ## wrong files and words made by hypothesis, FUZZ_EXAMPLES of each kind, with their counts
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest -s -m fuzz tests/bad_input

bench: $(VENV)/.installed-bench  ## short benchmarks, into bench-results/
	set -e; export BENCH_RESULTS=bench-results; \
	for one in limit "network --cases '2-D base 64 572,2-D base 32 572,3-D base 32 132'" \
	  "zarr_read --rounds 9" "scale --blocks 10000" workers "training --steps 10" "tile_choice --tries 3 --memories 256,512" \
	  "pipeline --cases '2-D base 32'" "peers --cases '2-D base 32'"; do \
	  echo "== $$one"; eval "$(BIN)/python -m benchmarks.$$one"; done

bench-long: $(VENV)/.installed-bench  ## most figures and plots of the performance pages (hours)
	$(BIN)/python -m benchmarks.limit
	$(BIN)/python -m benchmarks.zarr_read
	$(BIN)/python -m benchmarks.scale
	$(BIN)/python -m benchmarks.scale --blocks 1000 --engines map_overlap --name scale-map-overlap
	$(BIN)/python -m benchmarks.workers
	$(BIN)/python -m benchmarks.network --precisions bf16,fp32 --formats channels-last,contiguous
	$(BIN)/python -m benchmarks.tile_choice
	$(BIN)/python -m benchmarks.training
	$(BIN)/python -m benchmarks.pipeline --long
	$(BIN)/python -m benchmarks.peers --long
	$(BIN)/python -m benchmarks.scale --blocks 1000000 --name scale-million
	$(BIN)/python -m benchmarks.plan_time
	$(BIN)/python -m benchmarks.plots
	$(BIN)/python -m benchmarks.tables

check: $(VENV)/.installed-dev  ## lint, format, types, import layers, sizes and wording
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q $(STATIC_TESTS)

format: $(VENV)/.installed-dev  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.installed-dev  ## the documentation as a site in site/, with its links checked
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict
	@echo "read it: $(BIN)/python -m http.server --directory site --bind 127.0.0.1 8000"

pictures: $(VENV)/.installed-dev  ## the pictures of the documentation, from the demo and a headless Chromium
	$(BIN)/python docs/site/pictures.py

lock: $(VENV)/.installed-dev $(VENV)/.installed-bench  ## write constraints.txt from the versions in .venv, which must have passed the tests
	set -o pipefail; { grep '^#' constraints.txt; $(BIN)/python $(FREEZE); } > constraints.txt.new
	mv constraints.txt.new constraints.txt
	touch $(VENV)/.installed $^  # they hold these versions already

newest:  ## the tests with the newest version of everything but torch, in a new environment; lists what differs from constraints.txt
	rm -rf $(NEWEST)
	$(MAKE) $(NEWEST)/.installed-dev $(NEWEST)/.installed-bench VENV=$(NEWEST) CONSTRAINTS=
	@echo "constraints.txt < > newest:"; \
	  diff <(grep -v '^#' constraints.txt) <($(NEWEST)/bin/python $(FREEZE)) | grep '^[<>]' || echo "no difference"
	$(MAKE) test VENV=$(NEWEST) CONSTRAINTS= PYTEST_OPTIONS='--deselect $(LOCKED)'

audit:  ## known vulnerabilities of the versions in constraints.txt, as OSV lists them
	test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && \
	  $(AUDIT)/bin/python -m pip --disable-pip-version-check --quiet install pip-audit; }
	$(AUDIT)/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip --vulnerability-service osv

clean:  ## remove the virtual environments, the demo's output and the site
	rm -rf $(VENV) $(NEWEST) $(AUDIT) overtile-demo site

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "overtile needs Python 3.11 or later: make PYTHON=python3.12 …" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "venv failed: on Debian or Ubuntu, apt-get install python3-venv" >&2; rm -rf $(VENV); exit 1; }

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) | $(BIN)/python
	@echo "installing overtile into $(VENV) (a few minutes the first time)"
	$(INSTALL) '$(TORCH)'
	$(INSTALL) --editable '.[view]'
	@touch $@

$(VENV)/.slurm: | $(BIN)/python
	@export PATH="$$PATH:/usr/sbin:/sbin"; \
	for tool in sbatch slurmctld slurmd munged; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
	  echo "Slurm not found ($$missing ); its tests are skipped. On Debian or Ubuntu, as root: apt-get install slurm-wlm munge" >&2; \
	elif ! { apt-get update -qq && DEBIAN_FRONTEND=noninteractive \
	  apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null; }; then \
	  echo "apt-get could not install slurm-wlm and munge (see above); the tests on Slurm are skipped" >&2; fi

$(VENV)/.installed-bench: $(VENV)/.installed
	$(INSTALL) --editable '.[bench]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) --editable '.[dev]'
	@touch $@
