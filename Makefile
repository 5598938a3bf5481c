# Everything runs in .venv, which is made on first use. `make help` lists the targets.
# Another Python: make demo PYTHON=python3.12

PYTHON ?= python3
JOBS ?= 2
# Texts per tokenizer and law in `make study`.
STUDY_EXAMPLES ?= 20000
# For `make realpair`: two real models (SHARED has a script that makes them), and real SAEs and texts.
PAIR ?= .pair
SHARED ?= ../shared

BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --no-input --disable-pip-version-check -c constraints.txt
INPUTS := pyproject.toml constraints.txt xmodel/alignment/_kernels.c xmodel/pairing/_sparse.c

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test browser lint format benchmark realpair study clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 18

install: .venv/.installed ## the program, in .venv

demo: .venv/.installed ## the main job on the two small models that come with xmodel; the run is in xmodel-demo/
	@$(BIN)/xmodel demo </dev/null

test: lint ## formatting, lint, types, and every test that needs nothing beside the checkout
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) -m "not shared and not browser" </dev/null

lint: .venv/.installed-dev ## formatting, lint and types only
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright </dev/null

format: .venv/.installed-dev ## put the formatting in order
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

browser: .venv/.installed-dev ## the tests of the page of `xmodel report`, in Chromium
	XMODEL_REQUIRE_BROWSER=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile tests/browser </dev/null

benchmark: .venv/.installed-benchmarks ## accuracy and speed of alignment, pairing, nulls and the page against other ways
	$(BIN)/python benchmarks/alignment_accuracy.py </dev/null
	$(BIN)/python benchmarks/alignment_speed.py </dev/null
	$(BIN)/python benchmarks/pairing.py </dev/null
	$(BIN)/python benchmarks/nulls.py </dev/null
	$(BIN)/python benchmarks/lan2024.py </dev/null
	$(BIN)/python benchmarks/steering.py </dev/null
	$(BIN)/python benchmarks/report.py </dev/null

realpair: .venv/.installed-dev ## cost of a whole run, and the table of poolings, on the real pair in $(PAIR)
	$(BIN)/python benchmarks/end_to_end.py $(PAIR) $(SHARED)/data/saes $(SHARED)/data/texts/moby-dick </dev/null
	$(BIN)/python benchmarks/pooling.py $(PAIR) $(SHARED)/data/saes $(SHARED)/data/texts/moby-dick </dev/null

study: .venv/.installed-dev ## laws on many random texts, calibration of the nulls, planted truth, a 6 x 12 grid (hours)
	XMODEL_LAW_EXAMPLES=$(STUDY_EXAMPLES) $(BIN)/python -m pytest -n $(JOBS) tests/test_laws.py </dev/null
	$(BIN)/python benchmarks/null_calibration.py </dev/null
	$(BIN)/python benchmarks/recovery.py </dev/null
	$(BIN)/python benchmarks/grid.py </dev/null

clean: ## remove .venv and everything that was built
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find xmodel tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	find xmodel -name '*.so' -delete

# The pip that comes with any Python >= 3.11 is new enough, so it is left as it is.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "xmodel needs Python 3.11 or newer, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	         "Name another one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || { \
	    echo "'$(PYTHON)' cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv .venv

# Stamps: newer than what they were installed from, so a second call installs nothing.
.venv/.installed: $(INPUTS) | .venv/bin/python
	@echo "Installing xmodel into .venv (once; two or three minutes)" >&2
	@$(PIP_INSTALL) -e . </dev/null
	@touch $@

.venv/.installed-dev: .venv/.installed
	@echo "Installing the tools for tests into .venv (once)" >&2
	@$(PIP_INSTALL) -e ".[dev]" </dev/null
	@touch $@

.venv/.installed-benchmarks: .venv/.installed-dev
	@echo "Installing the other aligners into .venv (once)" >&2
	@$(PIP_INSTALL) -e ".[dev,benchmarks]" </dev/null
	@touch $@
