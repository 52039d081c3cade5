# Every target does its own set-up: a virtual environment with pinned packages, remade when the pins change.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CORE := $(VENV)/.core-installed
DEV := $(VENV)/.dev-installed
PINS := pyproject.toml constraints.txt
ONE_THREAD := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow test-gpu mutants check sanitize bench bench-gpu results

help:
	@echo "make demo       learn InvertedPendulum in a dream, judge it in MuJoCo, write runs/demo/report.html"
	@echo "make test       the test suite (no GPU needed)"
	@echo "make test-slow  the tests that take minutes"
	@echo "make test-gpu   the tests that need a CUDA device"
	@echo "make mutants    do the tests notice planted faults? about five minutes"
	@echo "make check      lint, format and types"
	@echo "make sanitize   compute-sanitizer over the kernels' tests, on a CUDA device"
	@echo "make bench      measure again what benchmarks/results holds"
	@echo "make bench-gpu  the kernels and whole training steps on a CUDA device, under eight minutes each"
	@echo "make results    the README's tables and figures from benchmarks/results"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "procosm needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(CORE): $(PINS) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(DEV): $(PINS) | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ $(CORE)

demo: $(CORE)
	$(BIN)/procosm demo

test: $(DEV)
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 --dist worksteal -m "not gpu and not slow"

test-slow: $(DEV)
	$(ONE_THREAD) $(BIN)/python -m pytest -m "slow and not gpu"

test-gpu: $(DEV)
	$(BIN)/python -m pytest -m gpu -rs

mutants: $(DEV)
	$(ONE_THREAD) $(BIN)/python -m tests.mutants

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(DEV)
	$(BIN)/python -m procosm.benchmarks.dream.pipeline --env InvertedPendulum --out runs/bench/InvertedPendulum --steps 10000
	$(BIN)/python -m procosm.benchmarks.dream.pipeline --env Reacher --out runs/bench/Reacher --preset medium --algorithm sac \
	  --steps 20000 --dreams 64 --iterations 100 --gamma 0.95
	$(BIN)/python -m procosm.benchmarks.dream.pipeline --env HalfCheetah --out runs/bench/HalfCheetah --preset fast --steps 20000 \
	  --episodes 20
	$(BIN)/python -m procosm.benchmarks.dream.pipeline --env Swimmer-v5 --out runs/bench/Swimmer-v5 --preset fast --steps 20000 \
	  --episodes 20 --seeds 1
	$(BIN)/python -m procosm.benchmarks.machine.dream_speed --checkpoint runs/bench/InvertedPendulum/seed0/world_model
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m procosm.benchmarks.sparse.cpu
	$(BIN)/python -m procosm.benchmarks.sparse.steps
	$(BIN)/python -m procosm.benchmarks.sparse.quality
	$(BIN)/python -m procosm.benchmarks.sparse.dropback_digits
	$(BIN)/python -m procosm.benchmarks.sparse.dropback_vgg
	$(BIN)/python -m procosm.benchmarks.sparse.accelerator
	$(BIN)/python -m procosm.benchmarks.dream.tokenizer --publish
	$(BIN)/python -m procosm.benchmarks.dream.fidelity --run runs/bench/InvertedPendulum/seed1 --publish
	$(BIN)/python -m procosm.benchmarks.dream.geometry --run runs/bench/InvertedPendulum/seed1 --publish
	$(BIN)/python -m procosm.benchmarks.dream.ranking --checkpoint envs/checkpoints/InvertedPendulum --zoo.dream-seeds 3 --zoo.trusting 3 \
	  --zoo.dreamed $(patsubst %,runs/bench/InvertedPendulum/seed%/policy/policy.zip,0 1 2)
	$(BIN)/python -m procosm.benchmarks.dream.ranking --checkpoint envs/checkpoints/Reacher --zoo.steps 12000 --zoo.dream-seeds 0 \
	  --zoo.dreamed runs/bench/Reacher/seed2/policy/policy.zip
	$(BIN)/python -m procosm.agents.judge.ranking.zoo --env HalfCheetah --out runs/ranking/HalfCheetah/zoo --steps 16000
	$(BIN)/procosm collect --env HalfCheetah --out runs/logged/HalfCheetah --steps 80000 \
	  --policy "policy:runs/ranking/HalfCheetah/zoo/*-s0-*.zip:0.65,noise:0.25,random:0.1"
	$(BIN)/procosm train --data runs/logged/HalfCheetah/data --out runs/logged/HalfCheetah/world_model --preset medium
	$(BIN)/python -m procosm.benchmarks.dream.ranking --checkpoint runs/logged/HalfCheetah --zoo.steps 16000 --zoo.dream-seeds 3
	$(BIN)/python -m procosm.benchmarks.dream.trust --checkpoint runs/logged/HalfCheetah --policies \
	  runs/ranking/HalfCheetah/zoo/sac-s0-4.zip runs/ranking/HalfCheetah/zoo/sac-s1-4.zip
	$(BIN)/python -m procosm.benchmarks.dream.beyond --run runs/logged/HalfCheetah
	$(BIN)/python -m procosm.benchmarks.dream.controllers --checkpoint envs/checkpoints/InvertedPendulum
	$(BIN)/python -m procosm.benchmarks.dream.near_rest --checkpoint envs/checkpoints/InvertedPendulum
	$(BIN)/python -m procosm.benchmarks.dream.probes --checkpoint envs/checkpoints/InvertedPendulum
	$(BIN)/python -m procosm.benchmarks.dream.probes --checkpoint envs/checkpoints/Reacher
	$(BIN)/python -m procosm.benchmarks.dream.trust --checkpoint envs/checkpoints/InvertedPendulum --policies \
	  runs/ranking/InvertedPendulum/zoo/dream-s0/policy.zip runs/ranking/InvertedPendulum/zoo/ppo-s0-4.zip
	$(BIN)/python -m procosm.benchmarks.dream.physics --publish
	$(BIN)/python -m procosm.benchmarks.dream.transfer
	$(BIN)/python -m procosm.benchmarks.machine.play_speed

bench-gpu: $(DEV)
	$(BIN)/python -m procosm.benchmarks.sparse.kernels
	$(BIN)/python -m procosm.benchmarks.sparse.training

sanitize: $(DEV)
	compute-sanitizer --tool memcheck $(BIN)/python -m pytest -m gpu tests/sparse/kernels
	compute-sanitizer --tool racecheck $(BIN)/python -m pytest -m gpu tests/sparse/kernels -k "not compiled and not recorded"

results: $(CORE)
	$(BIN)/python -m procosm.benchmarks.readme
