# make setup   build .venv from pyproject.toml and constraints.txt (only when one of them changed)
# make demo    from nothing to reconstructions of a simulated chest scan and analyses of turbulence, with scores and reports
# make test    all tests;  make lint   formatting, style, types, import rules

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := .setup-stamp
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
WORKERS ?= 2
# More threads than workers would make every test wait for its neighbours.
TEST_ENVIRONMENT := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1 OMP_WAIT_POLICY=passive

.PHONY: setup demo test lint freeze clean

# The stamp holds a hash of the two files instead of a time: a fresh checkout changes times, not contents.
# torch comes first and alone: without the constraints' exact name pip prefers a CPU build where one is offered.
setup:
	@hash="$$(cat pyproject.toml constraints.txt | sha256sum)"; \
	if [ -x $(BIN)/tomocast ] && [ "$$(cat $(STAMP) 2>/dev/null)" = "$$hash" ]; then exit 0; fi; \
	set -ex; \
	[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV); \
	$(BIN)/python -m pip install --quiet "torch==$(TORCH)"; \
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"; \
	echo "$$hash" > $(STAMP)

demo: setup
	$(BIN)/tomocast demo recon --config configs/demo.yaml --out runs/demo --overwrite
	$(BIN)/tomocast demo assimilation --config configs/demo-assimilation.yaml --out runs/demo-assimilation --overwrite

test: setup
	$(TEST_ENVIRONMENT) $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile $(PYTEST_OPTIONS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# After an intended upgrade: write what is installed as the new pins (local suffixes such as +cpu left out).
freeze:
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9.]*$$//' | grep -v '^tomocast' > constraints.txt

clean:
	rm -rf $(VENV) $(STAMP) dist build
