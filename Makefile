# Everything is set up on demand in .venv/; nothing is installed outside this folder.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
LIGHT := $(VENV)/.light
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := $(shell sed -n 's/^torch==/torch==/p' constraints.txt)

.DEFAULT_GOAL := help
.PHONY: help demo vsix wheels pictures test test-fast test-editors check format docs model clean

# Half of the tests' time is waiting for processes, so two at once suit two cores. WORKERS=0: all in one process.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS)

help:
	@echo "make demo    set up what completion needs, then complete real code with the embedded model in the terminal"
	@echo "make vsix    make the extension for VS Code"
	@echo "make wheels  make the wheels of all platforms into dist/"
	@echo "make test    set up the rest, then run the whole test suite; downloads editors into .cache/"
	@echo "make test-fast      the tests that need neither an editor nor much time"
	@echo "make test-editors   the tests in real editors alone"
	@echo "make check   lint, type check, import rules; the editors' code, too"
	@echo "make pictures       take the pictures of the README again, in real editors"
	@echo "make format  format the Python sources"
	@echo "make docs    write the reference pages from the program"
	@echo "make model   rebuild the embedded model from scratch (on a CPU: MINUTES=480; the shipped one, on a GPU: PRESET=gpu MINUTES=21)"
	@echo "make clean   remove .venv/ and caches; training runs in .cache/ stay"

PARTS := pyproject.toml constraints.txt hatch_build.py $(wildcard codegen_lsp/inference/engines/native/*.[ch]) codegen_lsp/inference/engines/native/compile_decoder.py

define make_environment
@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing. Install Python 3.11 or later, or say: make PYTHON=python3"; exit 1; }
@$(PYTHON) -m venv $(VENV) || { echo "No venv module: on Debian, apt-get install python3-venv"; exit 1; }
endef

# What serving, completing and refactoring need.
$(LIGHT): $(PARTS)
	@echo "Setting up $(VENV) (once; about half a minute)"
	$(make_environment)
	@$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

# All that the tests need, too. torch goes first and alone, so that no other package's looser range can choose another
# version.
$(READY): $(PARTS)
	@echo "Setting up $(VENV) with all that the tests need (once; about a minute)"
	$(make_environment)
	@$(PIP) install --quiet "$(TORCH)"
	@$(PIP) install --quiet --constraint constraints.txt --editable ".[all,ray,dev]"
	@touch $(LIGHT) $@

demo: $(LIGHT)
	@$(BIN)/codegen-lsp demo

vsix: $(LIGHT)
	@PYTHON=$(CURDIR)/$(BIN)/python bash editors/vscode/npm.sh run package
	@echo "Install it: code --install-extension editors/vscode/codegen-lsp.vsix"

TARGETS ?= linux-x86_64 linux-aarch64 macos-arm64 macos-x86_64 windows-x86_64
wheels:
	$(make_environment)
	@$(PIP) install --quiet build
	@for target in $(TARGETS); do CODEGEN_LSP_TARGET=$$target $(BIN)/python -m build --wheel --outdir dist . || exit 1; done

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

docs: $(LIGHT)
	@$(BIN)/python docs/generate.py

MINUTES ?= 480
PRESET ?= small
model: $(READY)
	@$(BIN)/python -m codegen_lsp.training --out .cache/training/model --minutes $(MINUTES) --preset $(PRESET)

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
