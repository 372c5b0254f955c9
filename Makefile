# `make demo` and `make test` set everything up by themselves; the rest is for people who change the code.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# For a CPU build of torch (0.2 instead of 5 GB): make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
SYSTEM_TOOLS := ip tc iptables nsenter unshare
SYSTEM_PACKAGES := iproute2 iptables util-linux python3-venv
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

PROCESSORS := $(shell nproc)
PURE := not real and not emulated

.PHONY: demo test test-fast bench fuzz lint sbom audit proto dashboards system clean help

help:  ## list these targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: system $(VENV)/.installed  ## run the comparison of the README: about six minutes, with a report at the end
	$(BIN)/gannet demo

test: system $(VENV)/.dev  ## run all tests: some seventy minutes on two processors with nothing else to do
	@command -v iperf3 >/dev/null || { $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends iperf3; }
	@status=0; \
	$(BIN)/python -m pytest -n $(PROCESSORS) --dist loadfile -m "$(PURE)" --durations=25 || status=1; \
	log=$$(mktemp); \
	chrt --idle 0 $(BIN)/python -m pytest -m emulated --durations=25 >$$log 2>&1 & emulated=$$!; \
	$(BIN)/python -m pytest -m real --durations=25 || status=1; \
	wait $$emulated || status=1; \
	cat $$log; rm $$log; \
	exit $$status

test-fast: $(VENV)/.dev  ## run the pure tests: no links, containers, emulated machines or runs of real processes
	$(BIN)/python -m pytest -n $(PROCESSORS) --dist loadfile -m "$(PURE) and not slow" --durations=25

bench: system $(VENV)/.dev  ## run the benchmarks of bench/, one after the other
	for script in bench/*.py; do $(BIN)/python $$script || exit 1; done

fuzz: $(VENV)/.dev  ## feed a million damaged inputs to each thing that reads input from outside, ten minutes each at most
	$(BIN)/pip install -q 'atheris>=3'
	$(BIN)/python -m tests.fuzz --runs 1000000 --seconds 600

lint: $(VENV)/.dev  ## run ruff and mypy, and compare declared dependencies with imported ones
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/deptry .

sbom: $(VENV)/.dev  ## write what is installed, with versions and licences, as CycloneDX: build/sbom.json
	mkdir -p build
	$(BIN)/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml -o build/sbom.json $(BIN)/python

audit: $(VENV)/.dev  ## look up what is installed among known vulnerabilities (asks pypi.org)
	$(BIN)/pip-audit --skip-editable --progress-spinner off

proto: $(VENV)/.dev  ## regenerate the Python of proto/*.proto after a change there
	$(BIN)/python -m grpc_tools.protoc -Igannet/node/wire=proto --python_out=. --pyi_out=. --grpc_python_out=. \
	  gannet/node/wire/control.proto gannet/node/wire/exchange.proto
	$(BIN)/python -m grpc_tools.protoc -Igannet/fabrics/links=proto --python_out=. --pyi_out=. --grpc_python_out=. \
	  gannet/fabrics/links/operator.proto

dashboards: $(VENV)/.dev  ## regenerate the JSON of dashboards/ after a change there
	$(BIN)/python -m dashboards

system:
	@missing=; for tool in $(SYSTEM_TOOLS); do PATH="$$PATH:/usr/sbin:/sbin" command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -n "$$missing" ]; then echo "installing what provides:$$missing"; \
	  $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q --no-install-recommends $(SYSTEM_PACKAGES); fi

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(if $(TORCH_INDEX),$(BIN)/pip install -q torch torchvision --index-url $(TORCH_INDEX))
	$(BIN)/pip install -q -e .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/pip install -q -e '.[dev]'
	touch $@

clean:  ## remove the virtual environment and caches (not runs/)
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
