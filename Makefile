# One word for each task of a developer. CONTRIBUTING.md explains them.
.PHONY: setup check test slow coverage docs bench lock
PYTEST = pytest -q -n auto --dist worksteal

setup:
	python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]'

check:
	.venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy && .venv/bin/$(PYTEST)

test:
	.venv/bin/$(PYTEST)

slow:
	.venv/bin/$(PYTEST) -m slow --timeout 3600

coverage:
	.venv/bin/coverage run -m $(PYTEST) && .venv/bin/coverage combine -q && .venv/bin/coverage report

docs:
	.venv/bin/mkdocs build --strict

bench:
	.venv/bin/python -m benchmarks --quick

# Versions and hashes for all platforms and Python versions; no address of an index.
lock:
	.venv/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade --no-annotate \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	  --extra dev -o requirements.lock pyproject.toml
