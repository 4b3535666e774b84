# Everything that is missing is installed first: a Debian machine with python3 and make is enough.
#
#   RABBITMQ_SUITE=trixie|sid|bookworm   run against the image built from that Debian suite
#   RABBITMQ_IMAGE=name:tag              run against that image
#   ACTORSTREAM_TEST_URI=rabbitmq-stream://user:password@host:5552
#   ACTORSTREAM_TEST_MANAGEMENT=http://host:15672       run against a broker that is there already
#   ACTORSTREAM_COMPILE=1                run the tests against the wire layer compiled by mypyc, not the source as it is
#   ARGS="-k pattern"                    more arguments for pytest (`make test`) or the benchmark (`make bench`)

SHELL := bash
.SHELLFLAGS := -o pipefail -c
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
ARGS ?=
DURATION ?= 300
SEED ?=
COMPILED := build/compiled
export RABBITMQ_SUITE RABBITMQ_IMAGE ACTORSTREAM_TEST_URI ACTORSTREAM_TEST_MANAGEMENT ACTORSTREAM_COMPILE

# The compiled package is a wheel unpacked beside the source, never machine code within it: what is edited is what runs,
# unless one asks for the other, and then in every process, whatever folder that is started in.
ifeq ($(ACTORSTREAM_COMPILE),1)
BUILT := $(COMPILED)/installed
PYTEST := -m pytest -o pythonpath=
export PYTHONSAFEPATH := 1
export PYTHONPATH := $(CURDIR)/$(COMPILED):$(CURDIR)
else
BUILT :=
PYTEST := -m pytest
endif

.PHONY: help demo test clustertest chaos herd beside bench count compile lint format up peers java versions secure cluster status down clean
.DEFAULT_GOAL := help

help: ## show this
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: $(VENV)/installed ## a short tour: publish, consume, break the broker, watch it heal
	@$(RUN) -m examples.demo

test: up peers java versions $(BUILT) ## the tests, against a real broker
	@$(RUN) $(PYTEST) -m "not cluster" $(ARGS)

clustertest: up $(BUILT) ## the tests that break a three-node cluster, the short part of the chaos suite among them
	@$(RUN) $(PYTEST) -m cluster $(ARGS)

chaos: up ## break a three-node cluster at random for DURATION seconds (SEED to repeat one), and check by content
	@$(RUN) -m tests.chaos --duration $(DURATION) $(if $(SEED),--seed $(SEED)) $(ARGS)

herd: up ## a thousand producers and consumers lose a node
	@$(RUN) -m tests.chaos.herd $(ARGS)

beside: up peers ## the same faults for this client and for rstream, checked alike
	@$(RUN) -m tests.chaos.beside $(ARGS)

bench: up peers $(COMPILED)/installed ## what it reaches and costs, beside rstream, rbfly and the ceiling (ARGS=--quick)
	@$(RUN) -m benchmarks.compare $(ARGS)

count: $(COMPILED)/installed ## instructions and memory for each message, compared with what is stored
	@$(RUN) -m benchmarks.count $(ARGS)

compile: $(COMPILED)/installed ## the package with its wire layer compiled, in build/compiled

lint: $(VENV)/installed ## ruff and mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(VENV)/installed ## let ruff format and repair what it can
	$(RUN) -m ruff format .
	$(RUN) -m ruff check --fix .

up: $(VENV)/installed ## a broker on localhost, with everything it takes
	@$(RUN) -m lab up

peers: $(VENV)/installed ## the environment of the clients that tests and benchmarks compare with
	@$(RUN) -m tests.interop.peers.environment

java: $(VENV)/installed ## the Java client, that tests compare with
	@$(RUN) -m tests.interop.peers.jvm

versions: $(VENV)/installed ## the images of the oldest and the newest broker; their tests are skipped without (in CI, they fail)
	-@$(RUN) -m lab versions

secure: $(VENV)/installed ## a broker with TLS and every way to log in
	@$(RUN) -m lab secure

cluster: $(VENV)/installed ## the three-node cluster
	@$(RUN) -m lab cluster

status: ## which brokers this checkout has, and where
	@$(PYTHON) -m lab status

down: ## remove this checkout's brokers with their data
	@$(PYTHON) -m lab down

clean: down ## the same, and the virtual environment and caches
	rm -rf $(VENV) .venv-peers .lab .env .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info build

$(COMPILED)/installed: $(VENV)/installed setup.py $(shell find actorstream -name '*.py')
	@echo "compiling the wire layer into $(COMPILED) (a minute)"
	@rm -rf $(COMPILED) build/lib*
	@ACTORSTREAM_COMPILE=1 $(RUN) -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation \
		--target $(COMPILED) .
	@touch $@

# Debian's python3 comes without ensurepip, which a virtual environment needs; Proton is built from source.
$(VENV)/installed: pyproject.toml $(wildcard setup.py)
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(PYTHON) -m lab packages python3-venv
	@command -v cc >/dev/null || $(PYTHON) -m lab packages gcc libc6-dev python3-dev
	@echo "installing into $(VENV) (a minute the first time)"
	@test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --disable-pip-version-check --editable '.[dev]' | grep -E '^(Collecting|Building|Installing|Successfully)'
	@touch $@
