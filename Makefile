# Every target sets up what it needs, in .venv; a second call starts at once.
#   make demo                 segment a synthetic patient; make demo CASE=FOLDER a case folder (BraTS namings)
#   make test                 the tests, Slicer's self-test included; make test-all: the slow ones too
#   make test-slicer SLICER=/path/to/Slicer   the same in the Slicer that you have
#   make bench                seconds by phase, ratios to MONAI's inferer and to a training step's parts
#   make docs                 the pages as a site: site/index.html; make docs-serve: the same, renewed while you write
#   make faults               bad inputs and kills: what is refused, lost, hung, left behind
PYTHON ?= python3
VENV := .venv
# Windows (not tried yet) names the folder and the program in its own way.
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
EXE := .exe
export PYTHONPATH := DanteSegmenter;DanteTrainer
else
BIN := $(VENV)/bin
export PYTHONPATH := DanteSegmenter:DanteTrainer
endif
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
OUT ?= demo

.PHONY: help demo test test-all test-slicer bench docs docs-serve field-tables faults lint pictures clean
.DEFAULT_GOAL := help

help:
	@sed -n '2,8p' Makefile | cut -c3-

$(BIN)/python$(EXE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed, this is " + sys.version)'
	@$(PYTHON) -m venv $(VENV) || { echo "The venv module is missing: install python3-venv (Debian, Ubuntu)." >&2; exit 1; }

# The stamps hold a set of packages up to date with the files that name them.
$(VENV)/ready-to-run: pyproject.toml constraints.txt | $(BIN)/python$(EXE)
	@echo "Installing what segmenting needs (torch is large; once)..."
	@$(PIP) install --constraint constraints.txt --editable '.[figures]'
	@touch $@

$(VENV)/ready-to-train: $(VENV)/ready-to-run
	@echo "Installing what training needs..."
	@$(PIP) install --constraint constraints.txt --editable '.[train]'
	@touch $@

$(VENV)/ready-to-test: $(VENV)/ready-to-run
	@echo "Installing what testing needs (once)..."
	@$(PIP) install --constraint constraints.txt --editable '.[test]'
	@touch $@

demo: $(VENV)/ready-to-run
	@$(BIN)/python Testing/tools/demo.py --out $(OUT) $(if $(CASE),--case "$(CASE)") $(if $(KIND),--kind $(KIND))

# Three processes on two cores, because some tests wait. Each runs its share in order, which seldom sets up a fixture twice, and then
# takes over tests of the others.
test: $(VENV)/ready-to-test
	@sh Testing/tools/system_libraries.sh
	@$(BIN)/python -m pytest -n 3 --dist worksteal $(ARGS)

test-all: $(VENV)/ready-to-test
	@sh Testing/tools/system_libraries.sh
	@$(BIN)/python -m pytest -m '' $(ARGS)

# The click-through and the self-tests in a Slicer of the user's, under settings that are thrown away.
test-slicer: $(BIN)/python$(EXE)
	@$(BIN)/python Testing/tools/in_slicer.py --out slicer-test $(if $(SLICER),--slicer "$(SLICER)") $(ARGS)

# nnU-Net is only measured against; without it the bench goes on.
$(VENV)/ready-to-bench: $(VENV)/ready-to-test
	@$(PIP) install --constraint constraints.txt --editable '.[bench]' || echo "nnU-Net could not be installed."
	@touch $@

bench: $(VENV)/ready-to-bench
	@sh Testing/tools/system_libraries.sh
	@$(BIN)/python Testing/bench/run.py $(if $(CASE),--case "$(CASE)")

faults: $(VENV)/ready-to-test
	@sh Testing/tools/system_libraries.sh
	@$(BIN)/python Testing/faults/run.py

$(VENV)/ready-to-document: $(VENV)/ready-to-run
	@echo "Installing what the site needs..."
	@$(PIP) install --constraint constraints.txt --editable '.[docs]'
	@touch $@

# What mkdocs says of its own future is not about these pages.
docs docs-serve: export NO_MKDOCS_2_WARNING = 1

docs: $(VENV)/ready-to-document
	@$(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html"

docs-serve: $(VENV)/ready-to-document
	@$(BIN)/python -m mkdocs serve

# The tables of fields in the pages, from the docstrings.
field-tables: $(VENV)/ready-to-run
	@$(BIN)/python Testing/tools/field_tables.py

# The README's pictures. Off-screen rendering needs EGL (Debian: libegl-mesa0 libgl1-mesa-dri).
pictures: $(VENV)/ready-to-test
	@mkdir -p Resources/Pictures
	@$(BIN)/python Testing/tools/render_window.py --out Resources/Pictures
	@$(BIN)/python Testing/tools/demo.py --out $(OUT) && cp $(OUT)/view.png Resources/Pictures/demo.png

lint: $(VENV)/ready-to-test
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean:
	rm -rf $(VENV) demo site slicer-test bench.json faults.json
