# make demo: set up and run the sample catalog through the whole pipeline.
# make test: set up and run linters, type checks and tests.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALL = $(BIN)/pip install -q -c constraints.txt

.PHONY: demo test lint figures clean

demo: $(VENV)/.demo
	$(BIN)/semid run pipelines/demo.toml

test: $(VENV)/.test lint
	$(BIN)/pytest -n 2 --dist loadfile

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The figures in docs/benchmarks.md; SEMID_DATA names the folder that holds beauty/.
figures: $(VENV)/.test
	for figure in train assign suffix embed robustness; do $(BIN)/python benchmarks/$$figure.py || exit 1; done

clean:
	rm -rf out .venv

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/pip pyproject.toml constraints.txt
	$(INSTALL) -e '.[cpu]'
	touch $@

$(VENV)/.test: $(BIN)/pip pyproject.toml constraints.txt
	$(INSTALL) -e '.[cpu,text,ray,report,dev,notebooks,test-models]'
	touch $@ $(VENV)/.demo
