# Every target works on a bare machine with Python >= 3.11; `make help` lists them.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
# Index of CPU-only PyTorch wheels, for machines whose package index would give the CUDA build (see docs/running.md, "Installing").
WCSE_TORCH_INDEX ?=
EXTRAS ?= dev
STUDY ?= outputs/nano
# Processes that share the tests.
JOBS ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Python compiles the modules that are imported, when they are; pip would compile all
export PIP_NO_COMPILE := 1
export TOKENIZERS_PARALLELISM := false

.DEFAULT_GOAL := help
.PHONY: help setup nano nano-seeds real gsm8k lab test test-slow test-kill test-engines test-nodes test-gpu test-real-model test-browser fuzz benchmarks benchmark-workers nano-models publish lint clean

help: ## show this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 20

setup: $(VENV)/.ready ## make .venv with the CPU default and everything that the tests need

$(VENV)/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; call: make PYTHON=python3.11 ...")'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet $(if $(WCSE_TORCH_INDEX),--index-url $(WCSE_TORCH_INDEX)) torch==2.13.0
	$(PY) -m pip install --quiet -e '.[$(EXTRAS)]'
	touch $@

nano: setup ## the main job: the nano study through all notebooks, to outputs/nano/report.html
	$(PY) -m wcse_lib.pipeline params/nano.yaml --machine params/machine/cpu.yaml

nano-seeds: setup ## the nano study with three training seeds, each on a draw of its own
	$(PY) -m wcse_lib.pipeline params/nano_seeds.yaml --machine params/machine/cpu.yaml

# in half precision where the processor computes in it
HALF := $(shell grep -qsw avx512_bf16 /proc/cpuinfo && echo _bf16)
real: ## a study of two pretrained models, SmolLM2-135M and Gemma-3-270M, in .venv-engines, to outputs/real/report.html
	PYTHON=$(PYTHON) WCSE_TORCH_INDEX=$(WCSE_TORCH_INDEX) tests/engines.sh --install
	.venv-engines/bin/python -m tools.real_models
	.venv-engines/bin/python -m wcse_lib.pipeline params/real.yaml --machine params/machine/two_cores$(HALF).yaml

gsm8k: setup ## a study of published GSM8K solutions (docs/running.md, "Real data")
	$(PY) -m wcse_lib.pipeline params/gsm8k_openai.yaml

publish: setup ## write a finished study's examples as dataset folders, as in: make publish STUDY=outputs/nano
	$(VENV)/bin/wcse publish $(STUDY) --out outputs/datasets

lab: setup ## open the notebooks in JupyterLab
	$(PY) -m wcse_lib.cli lab

test: setup ## the whole test suite
	$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "not slow and not engines and not browser and not gpu"

test-slow: setup ## heavier proofs: simulations, full oracles, the nano twin of every params file (an hour or more)
	$(PY) -m pytest -m "slow and not engines and not gpu"

test-engines: ## tests of vLLM (CPU build), endpoints, Unsloth, Ray and a real pretrained model, in .venv-engines (4 GB)
	PYTHON=$(PYTHON) WCSE_TORCH_INDEX=$(WCSE_TORCH_INDEX) tests/engines.sh -n $(JOBS) --dist loadfile --no-loadscope-reorder

# On a machine with a GPU and no network, name its own Python: make test-gpu GPU_PYTHON=python3 (docs/one_gpu.md).
GPU_PYTHON ?= $(PY)
test-gpu: ## tests on a CUDA GPU: sampling, finetuning, Unsloth, a nano study (skipped without one; never run yet)
	test $(GPU_PYTHON) != $(PY) || $(MAKE) setup
	$(GPU_PYTHON) -m pytest -s -rs -m gpu tests/gpu

test-nodes: ## Ray on two nodes of this machine, of which one is killed; as root, in .venv-engines
	PYTHON=$(PYTHON) WCSE_TORCH_INDEX=$(WCSE_TORCH_INDEX) WHICH=slow tests/engines.sh tests/sample/test_nodes.py

test-real-model: ## three studies with SmolLM2-135M on GSM8K, in .venv-engines (half an hour or more)
	PYTHON=$(PYTHON) WCSE_TORCH_INDEX=$(WCSE_TORCH_INDEX) WHICH=slow tests/engines.sh -s tests/whole/test_real_model.py

test-kill: setup ## kill the pipeline, or only its kernel, at 20 random moments; compare with an undisturbed run
	$(PY) -m pytest -s -m slow tests/whole/test_survival.py

test-browser: setup ## Run All of every notebook in JupyterLab; needs Chromium on the PATH
	$(PY) -m pip install --quiet playwright
	$(PY) -m pytest -m browser

fuzz: setup ## coverage-guided fuzzing of parameter files, samples, answers and report pages, two minutes each
	$(PY) -m pip install --quiet atheris
	mkdir -p outputs/fuzz
	for t in params samples answers report; do $(PY) tests/fuzz.py $$t -max_total_time=120 -max_len=4000 -artifact_prefix=outputs/fuzz/$$t- || exit 1; done

benchmarks: setup ## speed against named baselines, in one run on this machine
	for b in sampling finetuning verification labels metrics memory overhead; do echo "== $$b"; $(PY) benchmarks/$$b.py || exit 1; done

benchmark-workers: ## samples per second with 1, 2 and 4 Ray workers, and with one killed, in .venv-engines
	PYTHON=$(PYTHON) WCSE_TORCH_INDEX=$(WCSE_TORCH_INDEX) tests/engines.sh --install
	.venv-engines/bin/python benchmarks/workers.py
	.venv-engines/bin/python benchmarks/workers.py --kill

nano-models: setup ## pretrain the bundled models anew (about an hour on two cores; resumes)
	$(PY) -m tools.nano_models.pretrain

lint: setup ## check the style, and that the pages made from the source are as it says
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .
	$(PY) tools/params_docs.py --check
	$(PY) tools/tree.py --check

clean: ## remove outputs and caches, keep .venv
	rm -rf outputs build *.egg-info .hypothesis .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
