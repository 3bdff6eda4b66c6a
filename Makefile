# Every target works on a bare machine with Python >= 3.11; `make help` lists them.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
# Index of CPU-only PyTorch wheels, for machines whose package index would give the CUDA build (see README, "Installing").
WCSE_TORCH_INDEX ?=
EXTRAS ?= dev
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help setup nano gsm8k lab test test-slow nano-models lint clean

help: ## show this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

setup: $(VENV)/.ready ## make .venv with the CPU default and everything that the tests need

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; call: make PYTHON=python3.11 ...")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $(if $(WCSE_TORCH_INDEX),--index-url $(WCSE_TORCH_INDEX)) torch==2.13.0
	$(PY) -m pip install --quiet -e '.[$(EXTRAS)]'
	touch $@

nano: setup ## the main job: the nano study through all notebooks, to outputs/nano/report.html
	$(PY) -m wcse_lib.pipeline params/nano.yaml --machine params/machine/cpu.yaml

gsm8k: setup ## a study of published GSM8K solutions (README, "Real data")
	$(PY) -m wcse_lib.pipeline params/gsm8k_openai.yaml

lab: setup ## open the notebooks in JupyterLab
	$(PY) -m jupyterlab notebooks

test: setup ## the whole test suite
	$(PY) -m pytest -m "not slow and not engines"

test-slow: setup ## heavier proofs: simulations, full oracles
	$(PY) -m pytest -m slow

nano-models: setup ## pretrain the bundled models anew (about an hour on two cores; resumes)
	$(PY) -m wcse_lib.nano.pretrain

lint: setup ## check the style
	$(PY) -m ruff check .

clean: ## remove outputs and caches, keep .venv
	rm -rf outputs build *.egg-info .hypothesis .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
