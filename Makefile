# make demo   watch expired allocations being released, on a sample
# make test   install what the tests need and run them all; COVERAGE=1 measures what they go through, and asks for
#             enough; THOROUGH=1 tries all of what is tried in part without it, as in .ci/run
# make check  format, lint, types, documents, units, and then make test
# make test-old-sqlite  a few of the tests with the oldest SQLite that is supported; builds it, which needs npm and gcc
# make test-pythons     as root: the core's tests with the Python and the SQLite of Debian 12, 13 and sid, and with the
#              oldest SQLite
# make mutants  take one protection away at a time, and see its test fail
# make fuzz N=1000000  that many arbitrary rows, and a twentieth of it of configurations and of command lines, from
#              a new seed, which is printed (SEED=... for those of an earlier run); and EXAMPLES=5000 of the machine
#              that has other things happen in the midst of a tick
# make kills  kill ticks by SIGKILL, KILLS=150 of each kind: before, in and after a call; and as many orders; and
#              terminate some
# make bench  measure how fast it is, beside others, in about 20 minutes; SCALE=small: whether that works, in two.
#              FOLDER=... on the disk that is meant
# make docs   make the man page, the completions, docs/commands.md and the example configuration anew
#
# make install, make uninstall   as root; PREFIX=/usr/local, and DESTDIR= for whoever makes a package
# make deb                       a Debian package, in dist/
# make test-host                 as root: build, install, start, remove and purge that package in a new Debian
#
# PYTHON=python3.12 chooses the interpreter; else the newest of 3.11 or later is taken.

PYTHON ?=
N ?= 100000
EXAMPLES ?= 5000
KILLS ?= 150
SCALE ?= full
# More than there are processors: many tests wait.
PROCESSES ?= 3
PREFIX ?= /usr/local
DESTDIR ?=
N ?= 100000
SEED ?= $(shell date +%s)
VENV := .venv
BIN := $(VENV)/bin

# The user's pip settings for indexes and proxies stay; what would install to another place does not.
export PIP_USER := 0
export PIP_REQUIRE_VIRTUALENV := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport PYTHONPATH
unexport PYTHONHOME
unexport VIRTUAL_ENV
unexport PIP_TARGET
unexport PIP_PREFIX
unexport PIP_ROOT

.PHONY: demo test test-old-sqlite test-pythons check format docs bench mutants fuzz kills newest install uninstall deb test-host clean

demo: $(VENV)/.installed
	sh scripts/demo.sh $(BIN)/autorelease

test: $(VENV)/.installed-dev
	$(if $(THOROUGH),AUTORELEASE_THOROUGH=1 )$(BIN)/python -m pytest -n $(PROCESSES) $(if $(COVERAGE),--cov --cov-report=term) $(TESTS)

test-old-sqlite: $(VENV)/.installed-dev
	sh scripts/old-sqlite.sh .old-sqlite
	$(BIN)/python -m pytest tests/e2e/test_old_sqlite.py

test-pythons: $(VENV)/.installed-dev
	sh tests/host/pythons.sh $(BIN)/python

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	sh scripts/check-units.sh
	$(MAKE) test

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.installed
	$(BIN)/python -m scripts.make_docs

bench: $(VENV)/.installed-dev
	$(BIN)/python bench/everything.py --scale $(SCALE) $(if $(FOLDER),--folder $(FOLDER))

mutants: $(VENV)/.installed-dev
	$(BIN)/python scripts/mutants.py $(MUTANTS)

fuzz: $(VENV)/.installed-dev
	AUTORELEASE_THOROUGH=1 AUTORELEASE_FUZZ_CASES=$(N) AUTORELEASE_FUZZ_SEED=$(SEED) $(BIN)/python -m pytest -n 2 -o timeout=0 tests/fuzz
	AUTORELEASE_EXAMPLES=$(EXAMPLES) $(BIN)/python -m pytest -n 2 -rP tests/machine

kills: $(VENV)/.installed-dev
	AUTORELEASE_KILLS=$(KILLS) $(BIN)/python -m pytest -n 2 -rP tests/faults/test_kills.py

# The suite on the newest releases that pyproject.toml allows, in an environment of its own.
newest:
	sh scripts/make-venv.sh .venv-newest "$(PYTHON)"
	.venv-newest/bin/python -m pip install --quiet --upgrade --editable ".[dev]"
	.venv-newest/bin/python -m pytest -n 2

install:
	sh scripts/install-program.sh "$(DESTDIR)" "$(PREFIX)" "$(PYTHON)"
	sh scripts/install-files.sh "$(DESTDIR)" "$(PREFIX)"

uninstall:
	sh scripts/uninstall.sh "$(DESTDIR)" "$(PREFIX)"

deb:
	sh scripts/build-deb.sh "$(PYTHON)"

test-host: deb
	sh tests/host/run.sh dist/autorelease_*.deb

clean:
	rm -rf $(VENV) .venv-newest .old-sqlite

# The stamp files are written last, so that a half-made environment is made anew.
$(VENV)/.installed: pyproject.toml constraints.txt scripts/make-venv.sh
	sh scripts/make-venv.sh $(VENV) "$(PYTHON)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $(VENV)/.installed

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(VENV)/.installed-dev
