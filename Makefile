# Everything is set up on demand in .venv/; nothing is installed outside this folder.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help demo vsix pictures test test-fast test-editors check format docs model clean

# Half of the tests' time is waiting for processes, so two at once suit two cores. WORKERS=0: all in one process.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS)

help:
	@echo "make demo    set up, then complete real code with the embedded model in the terminal"
	@echo "make vsix    make the extension for VS Code"
	@echo "make test    set up, then run the whole test suite; downloads editors into .cache/"
	@echo "make test-fast      the tests that need neither an editor nor much time"
	@echo "make test-editors   the tests in real editors alone"
	@echo "make check   lint, type check, import rules; the editors' code, too"
	@echo "make pictures       take the pictures of the README again, in real editors"
	@echo "make format  format the Python sources"
	@echo "make docs    write the reference pages from the program"
	@echo "make model   rebuild the embedded model from scratch (on a CPU: MINUTES=480; the shipped one, on a GPU: PRESET=gpu MINUTES=21)"
	@echo "make clean   remove .venv/ and caches; training runs in .cache/ stay"

# torch goes first and alone, so that no other package's looser range can choose another version.
$(READY): pyproject.toml constraints.txt hatch_build.py $(wildcard codegen_lsp/inference/engines/native/*.[ch]) codegen_lsp/inference/engines/native/compile_decoder.py
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing. Install Python 3.11 or later, or say: make PYTHON=python3"; exit 1; }
	@echo "Setting up $(VENV) (once; about a minute)"
	@$(PYTHON) -m venv $(VENV) || { echo "No venv module: on Debian, apt-get install python3-venv"; exit 1; }
	@$(PIP) install --quiet "$(TORCH)"
	@$(PIP) install --quiet --constraint constraints.txt --editable ".[dev,train,plot]"
	@touch $@

demo: $(READY)
	@$(BIN)/codegen-lsp demo

vsix: $(READY)
	@PYTHON=$(CURDIR)/$(BIN)/python bash editors/vscode/npm.sh run package
	@echo "Install it: code --install-extension editors/vscode/codegen-lsp.vsix"

pictures: $(READY)
	@CODEGEN_LSP_PICTURES=$(CURDIR)/docs $(BIN)/python -m pytest tests/editors -k picture

test: $(READY)
	@$(PYTEST)

test-fast: $(READY)
	@$(PYTEST) -m "not editors and not slow"

test-editors: $(READY)
	@$(PYTEST) -m editors

check: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest --quiet tests/test_import_rules.py
	@PYTHON=$(CURDIR)/$(BIN)/python bash editors/check.sh

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(READY)
	@$(BIN)/python docs/generate.py

MINUTES ?= 480
PRESET ?= small
model: $(READY)
	@$(BIN)/python -m codegen_lsp.training --out .cache/training/model --minutes $(MINUTES) --preset $(PRESET)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
