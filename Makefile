# Everything a person does in this tree. `make` alone lists it.
# Needs make and Python 3.11 or newer, nothing else; to choose the Python: make PYTHON=python3.12 ...

PYTHON ?= python3
PIP_INSTALL = pip install --quiet --quiet --disable-pip-version-check
EXAMPLE = examples/01-mnist
NOTEBOOK = examples/02-validate-a-model
PUBLISHING = examples/12-publish-a-model
TREES = examples/07-xgboost
NOISE = examples/14-private-training
PEERS = .fedplane/peers
# Twice the cores of a small machine, since many tests wait for processes. To choose: make test WORKERS=1
WORKERS = 4
BENCHMARKS = frameworks control events telemetry security plane replicas limited fold robust privacy placement $(if $(KUBEBUILDER_ASSETS),apply)

# What an image is made of, by its file in deploy/locks: extras, joined by dashes.
LOCKS = scheduler scheduler-hub aggregator status status-hub authorizer collaborator cli cli-s3
COMPILE = .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes $(UPGRADE) --custom-compile-command 'make locks'

# Tests start Python hundreds of times; where this is set, each start compiles anew what it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv app peers demo notebook test check lint fix fuzz bench schemas locks audit docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: .venv/.made ## make .venv, with fedplane and what its tests need

app: $(EXAMPLE)/.venv/.made ## make the example app's own environment (PyTorch, Flower and XGBoost)

peers: $(PEERS)/.made ## make environments with NVFlare and OpenFL, to measure beside ours

demo: venv app ## a whole federation on this machine: train, explain, evaluate
	@.venv/bin/fedplane demo

notebook: $(EXAMPLE)/.venv/.notebook ## judge the demo's model in a notebook, with pictures
	@$(EXAMPLE)/.venv/bin/jupyter execute $(NOTEBOOK)/validate.ipynb --output=validated
	@echo "$(NOTEBOOK)/validated.ipynb has the outputs"

test: venv app $(EXAMPLE)/.venv/.notebook $(EXAMPLE)/.venv/.publishing lint ## everything that CI runs
	@.venv/bin/pytest --quiet --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

check: lint ## what takes seconds: lint, format, types, style, architecture
	@.venv/bin/pytest --quiet tests/test_*.py

lint: venv
	@.venv/bin/ruff check --quiet
	@.venv/bin/ruff format --quiet --check
	@.venv/bin/mypy --no-error-summary

fix: venv ## let ruff mend what it can
	@.venv/bin/ruff check --quiet --fix
	@.venv/bin/ruff format --quiet

fuzz: .venv/.fuzz ## search every decoder for inputs that break it, FUZZ_SECONDS (60) each; some of them: make fuzz DECODERS="fact bundle"
	@.venv/bin/python tests/fuzz/search.py $(DECODERS)

bench: venv app ## measure speed, for three quarters of an hour on a quiet machine, and write docs/performance.md
	@for each in $(BENCHMARKS); do .venv/bin/python benchmarks/$$each.py --json .fedplane/bench/$$each.json || exit; done
	@.venv/bin/python benchmarks/page.py .fedplane/bench docs/performance.md

schemas: venv ## write JSON Schemas, docs/events.md, docs/rounds.md, docs/reference, the tables of metrics and spans, and Grafana's dashboards anew
	@.venv/bin/python -m fedplane.schemas.generate
	@.venv/bin/python docs/draw_rounds.py
	@.venv/bin/python docs/list_commands.py
	@.venv/bin/python docs/list_fields.py
	@.venv/bin/python docs/list_rights.py
	@.venv/bin/python docs/draw_telemetry.py
	@.venv/bin/python deploy/grafana/draw.py

locks: .venv/.supply ## pin what images install, with hashes, in deploy/locks; newer versions as well: make locks UPGRADE=--upgrade
	@for each in $(LOCKS); do \
		$(COMPILE) pyproject.toml $$(printf -- '--extra %s ' $$(echo $$each | tr - ' ')) --output-file deploy/locks/$$each.txt || exit; done
	@sed -n 's/^requires = \["\(.*\)"\]/\1/p' pyproject.toml | $(COMPILE) - --output-file deploy/locks/build.txt

audit: .venv/.supply ## compare what images install with known vulnerabilities; needs the internet
	@for each in deploy/locks/*.txt; do echo $$each; .venv/bin/pip-audit --require-hashes --disable-pip --strict --progress-spinner off -r $$each || exit; done

docs: venv ## make a site of the pages, .fedplane/site/index.html
	@NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict
	@echo "to search in it: python3 -m http.server --bind 127.0.0.1 --directory .fedplane/site"

clean: ## remove the environments and every cache
	@rm -rf .venv $(EXAMPLE)/.venv $(PEERS) .fedplane/environments .fedplane/site .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# A stamp is newer than what was installed from, so a second run has nothing to do.

.venv/.made: pyproject.toml
	@$(call need_python)
	@echo "making .venv"
	@$(PYTHON) -m venv .venv
	@.venv/bin/$(PIP_INSTALL) --editable '.[test]'
	@touch $@

.venv/.fuzz: .venv/.made
	@.venv/bin/$(PIP_INSTALL) --editable '.[fuzz]'
	@touch $@

.venv/.supply: .venv/.made
	@.venv/bin/$(PIP_INSTALL) --editable '.[supply]'
	@touch $@

# PyTorch by itself first: it is most of the download, and an environment that has it is not resolved anew when the app changes.
# All examples but OpenFL's run here. What they need beside the first one's own is XGBoost, 19 MB, and Opacus, 3 MB.
$(EXAMPLE)/.venv/.made: $(EXAMPLE)/pyproject.toml $(TREES)/requirements.txt $(NOISE)/requirements.txt
	@$(call need_python)
	@echo "making $(EXAMPLE)/.venv; PyTorch takes a while"
	@$(PYTHON) -m venv $(EXAMPLE)/.venv
	@$(EXAMPLE)/.venv/bin/$(PIP_INSTALL) torch==2.13.0
	@$(EXAMPLE)/.venv/bin/$(PIP_INSTALL) --editable $(EXAMPLE)
	@$(EXAMPLE)/.venv/bin/$(PIP_INSTALL) --requirement $(TREES)/requirements.txt --requirement $(NOISE)/requirements.txt
	@touch $@

# The notebook needs the app's network, hence the app's environment: a second one would hold a second PyTorch.
$(EXAMPLE)/.venv/.notebook: $(EXAMPLE)/.venv/.made $(NOTEBOOK)/requirements.txt
	@echo "adding Jupyter to $(EXAMPLE)/.venv"
	@$(EXAMPLE)/.venv/bin/$(PIP_INSTALL) --requirement $(NOTEBOOK)/requirements.txt
	@touch $@

# Publishing needs the network, too. It is 115 MB that only its test wants here, so `make app` does without.
$(EXAMPLE)/.venv/.publishing: $(EXAMPLE)/.venv/.made $(PUBLISHING)/requirements.txt
	@echo "adding MLflow's client and ONNX to $(EXAMPLE)/.venv"
	@$(EXAMPLE)/.venv/bin/$(PIP_INSTALL) --requirement $(PUBLISHING)/requirements.txt
	@touch $@

# OpenFL asks for more than its averaging imports, and its decoding needs a numpy before 2.4.
# Neither peer needs PyTorch to average arrays, and neither gets it.
$(PEERS)/.made:
	@$(call need_python)
	@echo "making $(PEERS)"
	@$(PYTHON) -m venv $(PEERS)/nvflare
	@$(PEERS)/nvflare/bin/$(PIP_INSTALL) nvflare==2.9.0
	@$(PYTHON) -m venv $(PEERS)/openfl
	@$(PEERS)/openfl/bin/$(PIP_INSTALL) 'numpy<2.4' pandas protobuf scikit-learn dynaconf cloudpickle tqdm
	@$(PEERS)/openfl/bin/$(PIP_INSTALL) --no-deps openfl==1.9
	@touch $@

define need_python
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || \
	{ echo "fedplane needs Python 3.11 or newer, and $(PYTHON) is none; say where one is: make PYTHON=python3.12" >&2; exit 1; }
endef
