# make run   install Quire into .venv and serve the model in the box (MODEL=... for another) until
#            Ctrl-C or SIGTERM; it prints the address of the page to open
# make chat  the same, and chat with it in this terminal; from a pipe, answer its lines
# make test  install it with the development tools and run lint, types and tests
#
# PYTHON=...   the interpreter to use (3.11 or newer; found by itself)
# WORKERS=...  test processes
# ARGS=...     more arguments for `quire serve` (--port 8080), `quire chat` or pytest

VENV := .venv
BIN := $(VENV)/bin
CORES := $(shell getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
WORKERS ?= $(shell n=$(CORES); [ $$n -gt 8 ] && n=8; echo $$n)
PYTHON ?=
MODEL ?=
ARGS ?=

INSTALL_NEEDS := pyproject.toml CMakeLists.txt $(wildcard csrc/*) tools/install.py tools/install.sh
CHECKED := $(wildcard src tests benchmarks tools examples)

.PHONY: run chat test lint types unit clean

# exec: a SIGTERM to make's child is the server's, which lets running requests finish.
run: $(VENV)/.installed
	@exec $(BIN)/quire serve $(MODEL) $(ARGS)

chat: $(VENV)/.installed
	@exec $(BIN)/quire chat $(MODEL) $(ARGS)

test: lint types unit

lint: $(VENV)/.installed-dev
	@$(BIN)/ruff check $(CHECKED)
	@$(BIN)/ruff format --check $(CHECKED)

types: $(VENV)/.installed-dev
	@$(BIN)/mypy

# One thread a process: more of them fight over the cores that the other workers use.
unit: $(VENV)/.installed-dev
	@OMP_NUM_THREADS=1 $(BIN)/pytest -q -n $(WORKERS) --dist worksteal $(ARGS)

$(VENV)/.installed: $(INSTALL_NEEDS)
	@PYTHON="$(PYTHON)" sh tools/install.sh $(VENV)

$(VENV)/.installed-dev: $(INSTALL_NEEDS)
	@PYTHON="$(PYTHON)" sh tools/install.sh $(VENV) --dev

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .hypothesis
