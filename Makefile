# make demo: train on real data, eagerly and compiled, and compare.   make test: run the tests.
# Both make .venv with python3 (another one: make demo PYTHON=python3.12) and install into it what they need.
# With an NVIDIA GPU: make demo CUDA=13 (or CUDA=12) also installs what the GPU needs. ARGS="..." is passed on.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
comma := ,
CUDA_EXTRA := $(if $(CUDA),$(comma)cuda$(CUDA))

.PHONY: demo test lint bench clean

demo: $(VENV)/.with-demo$(CUDA_EXTRA)
	$(BIN)/python -m fusetorch.demo $(ARGS)

test: $(VENV)/.with-test$(CUDA_EXTRA)
	$(BIN)/python -m pytest --numprocesses auto --dist loadgroup $(ARGS)

lint: $(VENV)/.with-dev
	$(BIN)/ruff check .

bench: $(VENV)/.with-demo$(CUDA_EXTRA)
	$(BIN)/python -m bench $(ARGS)

clean:
	rm -rf $(VENV) build dist fusetorch.egg-info report.html

$(VENV)/.with-%: pyproject.toml | $(VENV)/.made
	@echo "Installing fusetorch[$*] and what it needs into $(VENV) (a few hundred MB at the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

$(VENV)/.made:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) was not found. Install Python 3.10 or newer, or name one: make PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "fusetorch needs Python 3.10 or newer; $(PYTHON) is $$($(PYTHON) -V). Name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments: its modules venv and ensurepip are missing."; \
	  echo "Debian and Ubuntu keep them in a package of their own: sudo apt install python3-venv"; \
	  echo "(for another Python: python3.X-venv). Then run make again."; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@touch $@
