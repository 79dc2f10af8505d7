# graftwork: every target sets up what it needs first. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt
RUN_ENV := OMP_NUM_THREADS=$${OMP_NUM_THREADS:-2} TOKENIZERS_PARALLELISM=false

SPECS ?= $(sort $(wildcard specs/papers/*.yaml))

.DEFAULT_GOAL := help
.PHONY: bench-checkpoint bench-data bench-gpu bench-recovery bench-surgery bench-train help quickstart test test-slow test-faults test-all test-cluster test-cluster-faults images check lint types layers format goldens docs bench results constraints clean

help: ## Show this list.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(BIN)/uv:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

$(VENV)/.train: pyproject.toml constraints.txt | $(BIN)/uv
	$(UV) --editable '.[train]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/uv
	$(UV) --editable '.[dev]'
	@touch $@ $(VENV)/.train

quickstart: $(VENV)/.train ## Train, grow, upcycle, continue, sparsify and densify a small model; ends with a report.
	$(BIN)/graftwork run specs/quickstart.yaml

test: $(VENV)/.dev ## Run the fast tests.
	$(RUN_ENV) $(BIN)/pytest -m 'not slow and not cluster and not faults' $(ARGS)

test-slow: $(VENV)/.dev ## Run the tests that take minutes.
	$(RUN_ENV) $(BIN)/pytest -m 'slow and not cluster' $(ARGS)

test-faults: $(VENV)/.dev ## Disturb trainings in every way at every moment; test-slow has thirty of these cells.
	FAULTS_REPORT=$${FAULTS_REPORT:-build/faults} $(RUN_ENV) $(BIN)/pytest -m faults tests/faults $(ARGS)

test-all: test test-slow ## Run both.

test-cluster: $(VENV)/.dev ## Run the tests on a cluster; tests/cluster/README.md says which.
	$(RUN_ENV) $(BIN)/pytest -m cluster $(ARGS)

test-cluster-faults: $(VENV)/.dev ## Kill parts of a cluster at random while workflows run on it; tests/cluster/README.md.
	$(BIN)/python tests/cluster/faults $(ARGS)

images: ## Build the container images, with docker, podman or buildah.
	images/build

check: lint types layers ## Run every static check.

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	$(BIN)/yamllint --strict specs manifests .github

types: $(VENV)/.dev
	$(BIN)/mypy

layers: $(VENV)/.dev
	$(BIN)/lint-imports

format: $(VENV)/.dev ## Format the code.
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

goldens: $(VENV)/.dev ## Write the compiled pipeline of every spec again; review the difference.
	GOLDENS=write $(BIN)/pytest -q tests/compile/test_goldens.py tests/launcher/test_manifests.py

docs: $(VENV)/.dev ## Write the generated pages, dashboards, monitors and alerts again.
	$(BIN)/python docs/generate.py
	$(BIN)/python manifests/generate.py

bench: $(VENV)/.dev ## Measure the language, the compiler and the local run; prints JSON.
	$(BIN)/python benchmarks/run.py

bench-train: $(VENV)/.dev ## Measure training on the CPU against a bare PyTorch loop; prints JSON.
	$(BIN)/python benchmarks/run.py train

bench-data: $(VENV)/.dev ## Measure reading, filtering, tokenizing and packing; prints JSON.
	$(BIN)/python benchmarks/run.py data

bench-surgery: $(VENV)/.dev ## Measure stacking and upcycling 1.1B parameters against copies and, where MERGEKIT names it, mergekit; needs 11 GB, and 22 where MINIO names a server.
	timeout 2700 $(BIN)/python -W ignore benchmarks/surgery.py $(ARGS)

bench-cluster: $(VENV)/.dev ## Measure a run on a cluster: from submission to the first step, and whose seconds those are.
	$(BIN)/python benchmarks/run.py cluster

results: $(VENV)/.train ## Try the effect of every paper in specs/papers (SPECS=... for some), then write docs/results.md.
	@for spec in $(SPECS); do $(BIN)/graftwork run $$spec || exit 1; done
	$(BIN)/python docs/results.py $(SPECS)

bench-gpu: $(VENV)/.dev ## Measure training on one GPU: MFU in bf16, fp8, experts, memory; under nine minutes, prints JSON.
	timeout 540 $(BIN)/python -W ignore benchmarks/gpu.py

bench-checkpoint: $(VENV)/.dev ## Measure checkpoints of 2.4 GB on disk and, where MINIO names a server, to S3; needs 10 GB.
	timeout 1800 $(BIN)/python -W ignore benchmarks/checkpoint.py

bench-recovery: $(VENV)/.dev ## Measure how long after a kill a training of 10M parameters is at a new step; about five minutes.
	timeout 900 $(BIN)/python -W ignore benchmarks/recovery.py

constraints: $(BIN)/uv ## Pin the versions that are installed now.
	@{ head -2 constraints.txt; $(BIN)/uv pip freeze --python $(BIN)/python | grep -vE '^(-e|graftwork|uv==)'; } > constraints.new
	@mv constraints.new constraints.txt

clean: ## Remove the virtual environment and caches; runs/ stays.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
