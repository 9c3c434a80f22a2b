# `make` alone lists the targets. Everything is written inside the repository: the environment to
# .venv, prepared data to .data (unless TFDS_DATA_DIR says otherwise), compiled programs to .compiled
# (unless JAX_COMPILATION_CACHE_DIR does), runs to runs.

PYTHON ?= python3
EPOCHS ?= 5
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUN := runs/mnist_jmvae_kl_$(EPOCHS)_epochs
PICTURE := $(RUN)/figures/label_to_image.png
FACE_EPOCHS ?= 8
FACES := runs/synthetic_faces_jmvae_kl_$(FACE_EPOCHS)_epochs

FACE_FIGURES := reconstructions attributes average_faces random_faces attribute_latent edits

# One test process a core, four at most; a file's fixtures are made once.
WORKERS := -n auto --maxprocesses=4 --dist loadfile

export TFDS_DATA_DIR ?= $(CURDIR)/.data
train faces bench: export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.compiled

.DEFAULT_GOAL := help
.PHONY: help setup train faces test test-all lint format typecheck bench clean

help: ## Lists the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY) ## Makes the environment in .venv and installs the package with its tools

$(READY): setup.cfg constraints.txt pyproject.toml
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed"'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

train: $(READY) ## Trains JMVAE-kl on MNIST for EPOCHS (5), evaluates it, draws digits from labels
	$(BIN)/python experiments/train.py --config=experiments/configs/mnist.py:jmvae_kl \
	  --config.train.epochs=$(EPOCHS) --workdir=$(RUN)
	mkdir -p $(dir $(PICTURE))
	$(BIN)/python experiments/generate.py --workdir=$(RUN) --given=label --target=image \
	  --out=$(PICTURE)
	$(BIN)/python experiments/evaluate.py --workdir=$(RUN) --num_samples=100 --num_examples=1000
	@echo "wrote $(PICTURE): digits generated from labels"
	@echo "wrote $(RUN): config.json, metrics.jsonl, TensorBoard events, checkpoints/"

faces: $(READY) ## Trains JMVAE-kl on synthetic faces, evaluates it, draws and edits faces
	$(BIN)/python experiments/train.py --config=experiments/configs/synthetic_faces.py:jmvae_kl \
	  --config.train.epochs=$(FACE_EPOCHS) --workdir=$(FACES)
	mkdir -p $(FACES)/figures
	for figure in $(FACE_FIGURES); do \
	  $(BIN)/python experiments/figures.py --figure=$$figure --workdirs=$(FACES) \
	    --out=$(FACES)/figures/$$figure.png || exit 1; \
	done
	$(BIN)/python experiments/evaluate.py --workdir=$(FACES) --num_samples=10 --coherence
	@echo "wrote $(FACES)/figures: $(FACE_FIGURES)"

test: $(READY) ## Runs the tests, but for the slow ones
	$(BIN)/python -m pytest -q $(WORKERS)

test-all: $(READY) ## Runs all tests
	$(BIN)/python -m pytest -q -m '' $(WORKERS)

lint: $(READY) ## Looks for mistakes and wrong format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(READY) ## Mends the format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(READY) ## Checks the types
	$(BIN)/mypy

bench: $(READY) ## Measures training, likelihoods, streams, start-up, memory; PEER=PYTHON has MultiVae beside them
	$(BIN)/python benchmarks/train.py $(if $(PEER),--peer=$(PEER))
	$(BIN)/python benchmarks/train.py --batch_size=500 $(if $(PEER),--peer=$(PEER))
	$(BIN)/python benchmarks/likelihood.py $(if $(PEER),--peer=$(PEER))
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/memory.py

clean: ## Removes the environment and caches; runs and prepared data stay
	rm -rf $(VENV) .compiled *.egg-info .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
