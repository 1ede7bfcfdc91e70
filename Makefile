# Two commands do all the set-up on a fresh machine: `make run` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= out

.PHONY: run test test-all test-fast fuzz crash lint bench optima suites docs install install-all clean

install: $(VENV)/.installed
install-all: $(VENV)/.installed-all

# torch goes first and by its pin: a plain 'torch' brings gigabytes of CUDA libraries.
$(VENV)/.installed: setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[plot]'
	touch $@

$(VENV)/.installed-all: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,test,docs]'
	touch $@

run: install
	$(BIN)/archgym run dram/sort --space wide --objective edp --only RefreshPolicy=AllBank,PerBank -w requests=10000 --agent random,walk,ga --budget 300 --seeds 3 --report --out $(OUT)/run-$$(date +%Y%m%d-%H%M%S) $(RUN_OPTIONS)

# Two workers with a thread each: more would wait for each other.
test: install-all
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m 'not stress' --timeout 900

# The large sizes, too.
test-all: install-all
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal --timeout 900

test-fast: install-all
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 -m 'not slow and not stress' --timeout 300

lint: install-all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python tools/function_length.py
	$(BIN)/python tools/unused_names.py
	$(BIN)/mypy

docs: install-all
	$(BIN)/mkdocs build --strict
	@echo "open it with: $(BIN)/mkdocs serve"

bench: install-all
	for name in dram accelerator soc nas agents proxy env; do $(BIN)/archgym bench $$name; done

# The shipped tables of optima, by the commands that their rows name: hours. `make optima SIMULATOR=dram` makes one.
optima: install
	$(BIN)/python tools/make_optima.py $(if $(SIMULATOR),--simulator $(SIMULATOR)) $(OPTIMA_OPTIONS)

# The ready suites: what problems are measured against, and the entries of our agents. `make suites SUITE=archgym-8` makes one.
suites: install
	$(BIN)/python tools/make_suites.py $(SUITE) $(SUITE_OPTIONS)

# Mutated files for every reader, and kills at every change of a file, for as long as one likes.
fuzz: install-all
	$(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),600)

crash: install-all
	mkdir -p $(OUT)/crash && $(CC) -shared -fPIC -o $(OUT)/crash.so tests/crash/crash.c -ldl
	rm -rf $(OUT)/crash/* && LD_PRELOAD=$(OUT)/crash.so PYTHONPATH=. $(BIN)/python tests/crash/driver.py $(OUT)/crash $(or $(POINTS),0)

clean:
	rm -rf $(VENV) $(OUT) runs site .numba
