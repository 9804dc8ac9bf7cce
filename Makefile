# make demo    measure a real training and show its joules
# make test    run the tests
# make check   lint, format, types, one-way imports
#
# Everything lives in .venv; PYTHON chooses the interpreter that makes it.

PYTHON ?= python3
WORKERS ?= 3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check format clean

demo: $(VENV)/.installed
	$(BIN)/energyprof run --name demo examples/train_transformer.py
	$(BIN)/energyprof show @last

# Most tests wait for programs, which find energyprof compiled: more at a time than there are processors. What the
# tests of a module share is made once, by the worker that has them all. Beside so many, threads of torch's own wait
# for each other. Tests marked `alone` measure times: they are kept from the busy ones, and measure again where the
# machine was busy with something else.
test: $(VENV)/.installed-test
	$(BIN)/python -m compileall -q energyprof collectors reports tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder -m "not alone"
	$(BIN)/python -m pytest -n 2 --dist load --reruns 2 -m alone

check: $(VENV)/.installed-check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy & types=$$!; $(BIN)/pyright --pythonpath $(BIN)/python; pyright=$$?; wait $$types && exit $$pyright

format: $(VENV)/.installed-check
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# torch comes first and alone: with the others, a resolver may choose the CUDA build of several gigabytes.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

$(VENV)/.installed-check: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,check]'
	touch $(VENV)/.installed-test $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
