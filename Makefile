# `make run` and `make test` set up everything they need; when nothing has changed they start at once.
PYTHON ?= python3
BIN := .venv/bin
# two processes; a file stays in one of them, which makes its fixtures once; long files first
TWO := -n 2 --dist loadfile --no-loadscope-reorder
STAMP := .venv/.installed-$(shell cat pyproject.toml constraints.txt | cksum | cut -d' ' -f1)

.PHONY: run test test-arithmetic chromium check format docs site bench dist clean
run: $(STAMP)
	@$(BIN)/python -m strategies.walkforward --symbol BTCUSDT --preset quick $(ARGS)

test: $(STAMP) chromium
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports
	@$(BIN)/deptry .
	@$(BIN)/deptry tests docs benchmarks examples --exclude '\.venv' --ignore DEP002,DEP004
	@$(BIN)/mypy
	@$(BIN)/python -m pytest $(TWO) $(ARGS)

# the tests under the arithmetic of other processors, one after the other, each as long as `make test`; ARITHMETIC=... for one of them
ARITHMETIC ?= REGIME_TEST_WEIGHT_NOISE=1e-6 ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 MKL_CBWR=COMPATIBLE \
  ONEDNN_MAX_CPU_ISA=SSE41 NUMBA_CPU_NAME=generic OMP_NUM_THREADS=1 GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX
test-arithmetic: $(STAMP)
	@failed=; for each in $(ARITHMETIC); do echo "== $$each"; \
	  env "$$each" $(BIN)/python -m pytest $(TWO) $(ARGS) || failed="$$failed $$each"; done; \
	  test -z "$$failed" || { echo "red under:$$failed"; exit 1; }

# the browser tests need Debian's chromium; where it cannot be installed they skip and say so
chromium:
	@command -v chromium > /dev/null || { test "$$(id -u)" = 0 && command -v apt-get > /dev/null \
	  && echo "installing chromium for the browser tests (once)" \
	  && (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y chromium) > .venv/chromium.log 2>&1; } \
	  || echo "no chromium here and no right to install it: the browser tests will skip"

check: test

# the documentation as pages that work from disk: site/index.html; any broken link or reference is an error
site: $(STAMP)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

# the pages, and every command they show that is too long for a test, made small, in a copy of the checkout (about 10 minutes)
docs: site
	@$(BIN)/python -m docs.executed

# the speed figures of docs/performance.md, written into it: less than ten minutes; ARGS="--only kernels,account" for some of them
bench: $(STAMP)
	@$(BIN)/python -m benchmarks.page $(ARGS)

# dist/: a wheel that works outside a checkout, the tested versions of what it needs, and what is new in this version
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
dist: $(STAMP)
	@rm -rf build dist && mkdir dist
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist . && rm -rf build
	@cp constraints.txt dist/
	@grep -q '^## \[$(VERSION)\]' CHANGELOG.md && part='$(VERSION)' || part=Unreleased; \
	  awk -v part="[$$part]" '/^## /{on = index($$0, part)} on' CHANGELOG.md > dist/RELEASE-NOTES-$(VERSION).md
	@ls -1 dist/*

format: $(STAMP)
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

$(STAMP):
	@echo "setting up .venv (a minute or two, once)"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch==2.13.0 2>&1 | grep -v "^WARNING: Location" || true
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[test]" > .venv/install.log 2>&1 || (cat .venv/install.log; exit 1)
	@$(BIN)/python -m strategies.doctor --compile --quiet || true
	@rm -f .venv/.installed-* && touch $@

clean:
	rm -rf dist .venv .mypy_cache .ruff_cache .pytest_cache
