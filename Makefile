# Anabranch. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
UV_VERSION := 0.13.8
UV := .uv/bin/uv
BIN := .venv/bin
MEMBERS := $(sort $(patsubst %/pyproject.toml,%,$(wildcard libs/*/pyproject.toml services/*/pyproject.toml deploy/local/pyproject.toml)))
STAMP := .venv/.anabranch-setup

.PHONY: help setup lint type test test-unit test-connected coverage demo bench bench-loop guard-models gen check-gen docs up down lock new-service clean

help: ## Show the targets.
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(UV):
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if (3, 11) <= v < (3, 14) else f"Anabranch needs Python 3.11 to 3.13; {sys.executable} is {v.major}.{v.minor}: run make PYTHON=python3.12")'
	$(PYTHON) -m venv .uv
	.uv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

# Third-party code comes from requirements.lock, hash for hash; the project's own members are linked.
$(STAMP): requirements.lock $(addsuffix /pyproject.toml,$(MEMBERS)) | $(UV)
	@test -d .venv || $(UV) venv --quiet --python $$($(PYTHON) -c 'import sys; print(sys.executable)') .venv
	$(UV) pip sync --python .venv --require-hashes requirements.lock
	$(UV) pip install --python .venv --quiet --no-deps $(addprefix --editable ./,$(MEMBERS))
	@touch $@

setup: $(STAMP) ## Install everything into .venv (uv is bootstrapped into the checkout).

lock: | $(UV) ## Resolve dependencies anew and write requirements.lock.
	$(UV) lock
	$(UV) export --quiet --all-packages --all-groups --no-emit-workspace --no-annotate --no-header --format requirements-txt --output-file requirements.lock

gen: setup ## Generate code from protos/.
	$(BIN)/buf lint
	$(BIN)/python libs/contracts/generate.py

bench: setup ## Measure quality and speed on a platform of its own; JSON on stdout (DATA=folder of datasets).
	$(BIN)/python tests/bench/run.py $(if $(DATA),--data $(DATA))

bench-loop: setup ## Measure what rounds of the loop change; JSON on stdout (DATA=folder of datasets, ARGS=more options).
	$(BIN)/python tests/bench/loop.py $(if $(DATA),--data $(DATA)) $(ARGS)

guard-models: setup ## Train the heads of guardrails from DATA (default ../shared/data) into their package.
	$(BIN)/python -m services.guardrails.training --data $(or $(DATA),../shared/data)
	$(BIN)/python -m services.guardrails.training.grounding --data $(or $(DATA),../shared/data)

docs: setup ## Write docs/reference (gRPC, Kafka, AsyncAPI) from protos/.
	$(BIN)/python docs/generate.py

check-gen: setup ## Fail when generated code or reference pages differ from protos/.
	$(BIN)/python libs/contracts/generate.py --check
	$(BIN)/python docs/generate.py --check

lint: setup ## ruff, import-linter, buf lint and format.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code

type: setup ## mypy, strict.
	$(BIN)/mypy libs services deploy docs tests

test: setup ## All tests but those that need a GPU, with real Kafka, Weaviate and PostgreSQL.
	$(BIN)/pytest -m "not gpu"

test-unit: setup ## The tests that need nothing but Python: seconds.
	$(BIN)/pytest -m "not connected and not slow and not gpu"

test-connected: setup ## The tests on real parts.
	$(BIN)/pytest -m "(connected or slow) and not gpu"

# What trains adapters lives in an environment of its own: torch, and what is built on it.
TRAIN := services/training/lora
TRAIN_STAMP := .venv-train/.anabranch-setup
TRAIN_WITHOUT := $(addprefix --no-emit-package ,triton cuda-bindings cuda-pathfinder cuda-toolkit $(addprefix nvidia-,cublas cuda-cccl cuda-cupti \
	cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile curand cusolver cusparse cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx))

$(TRAIN_STAMP): $(TRAIN)/requirements.lock $(TRAIN)/cpu_only.py | $(UV)
	@test -d .venv-train || $(UV) venv --quiet --python $$($(PYTHON) -c 'import sys; print(sys.executable)') .venv-train
	$(UV) pip sync --quiet --python .venv-train --require-hashes $(TRAIN)/requirements.lock
	.venv-train/bin/python $(TRAIN)/cpu_only.py
	@touch $@

test-train: setup $(TRAIN_STAMP) ## Train adapters of a tiny model on CPU, in an environment of its own (2 GB, minutes).
	ANABRANCH_TRAIN_PYTHON=$(CURDIR)/.venv-train/bin/python $(BIN)/pytest services/training/tests/words/check_adapters.py

lock-train: | $(UV) ## Resolve what trains adapters anew, without CUDA.
	cd $(TRAIN) && $(CURDIR)/$(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
		$(TRAIN_WITHOUT) --output-file requirements.lock requirements.in

coverage: setup ## Unit tests with branch coverage; HTML in htmlcov/.
	$(BIN)/pytest -q -m "not connected and not slow and not gpu" --cov --cov-report=term:skip-covered --cov-report=html

demo: setup ## Start everything, put documents in, ask, change, delete, close the loop once, stop.
	$(BIN)/python deploy/demo/demo.py

up: setup ## Start Kafka, the index and all services in the background.
	$(BIN)/anabranch up --detach

down: setup ## Stop what `make up` started.
	$(BIN)/anabranch down

new-service: setup ## Make a service of the standard shape: make new-service name=x
	@test -n "$(name)" || { echo "say which: make new-service name=x"; exit 2; }
	$(BIN)/python services/_template/new_service.py $(name)
	$(MAKE) setup
	$(BIN)/ruff check services/$(name)
	$(BIN)/pytest -q services/$(name) tests/architecture -k "$(name)"

clean: ## Remove environments and caches of this checkout.
	rm -rf .venv .venv-train .uv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
