# Everything runs in .venv, which is made when it is not there: no set-up step of its own.
PYTHON ?= python3
BIN := .venv/bin
export RAY_USAGE_STATS_ENABLED ?= 0
unexport PYTHONDONTWRITEBYTECODE  # each of the thousand processes that tests start would compile the package anew

.PHONY: setup check test demo bench profile clean

setup: .venv/ready

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	MYPYPATH=src:. $(BIN)/mypy --explicit-package-bases -p examples -p tests -p benchmarks
	$(BIN)/lint-imports

test: setup
	$(BIN)/pytest --numprocesses 2 --dist loadfile $(ARGS)

demo: setup
	rm -rf demo-data
	$(BIN)/python -m examples.bank --data demo-data --chaos
	$(BIN)/python -m examples.quickstart
	$(BIN)/python -m examples.tour
	rm -rf demo-data

# One benchmark: ONLY=append; 2 minutes instead of 20: QUICK=1; then and now: COMPARE=old.json.
bench: .venv/bench
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick) $(if $(COMPARE),--compare $(COMPARE))

# Where the processor time of the hot paths goes, by layers.
profile: .venv/bench
	$(BIN)/python -m benchmarks.profile $(if $(ONLY),--only $(ONLY))

.venv/bench: .venv/ready
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis demo-data
