# Every target sets the environment up first if that is not done. GNU make 3.81 or later.
#
#   make DEVICE=cpu …        the lock to install: cpu or gpu. Default: gpu if nvidia-smi finds one
#   make PYTHON=python3.12 … the Python to make the environment with. Default: the first of 3.11 to 3.13 found
#   make VENV=PATH …         another folder for the environment
#   make SETUP=skip …        take the environment as it is, and install nothing
#   make test WORKERS=0 …    run the tests one after another. Default: at once on the processor's cores, at most four
#   make TARGET ARGS="…"     more words for the target's command

VENV = .venv
ARGS =
PORT ?= 5000
WORKERS = logical
UV = uv
DEVICE := $(shell nvidia-smi -L 2>/dev/null | grep -q GPU && echo gpu || echo cpu)

# Holds the folder that the environment was made for. Written last, so what was interrupted is done again.
STAMP = $(VENV)/.installed-$(DEVICE)
# With the environment first in PATH, `python` of dvc.yaml and `dvc` are its own.
IN_VENV = bin=$$(cd "$(VENV)/bin" && pwd) && export PATH="$$bin:$$PATH" &&
# Stops where conf/ was edited after params.yaml was compiled from it. DVC does not see that: no stage depends on conf/.
FRESH = python -c 'from thaw.config import load; load.run(lambda: None if load.read() else None, "params.yaml")'

# The same of what tests, checks and the site need besides, which running the pipeline does not.
TOOLS_STAMP = $(VENV)/.with-tools

ifeq ($(SETUP),skip)
READY =
TOOLS =
else
READY = $(STAMP)
TOOLS = $(TOOLS_STAMP)
endif

.DEFAULT_GOAL := help
.PHONY: .in-git help setup repro test test-slow lint format params docs site sweep ui lock clean distclean again

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## make the environment, which the targets below do by themselves
	@echo "$(VENV) is ready"

# DVC and experiments need git. Said first, and not after minutes of set-up.
.in-git:
	@[ -e .git ] || git rev-parse --git-dir >/dev/null 2>&1 || { echo "make: expected a git repository, since DVC needs" \
		"one, found none in $(CURDIR); make one: git init && git add . && git commit --message=start" >&2; exit 1; }

repro: .in-git $(READY) ## run the pipeline: what has changed since the last run, and what depends on it
	@$(IN_VENV) $(FRESH) && dvc repro $(ARGS)

test: $(TOOLS) ## run the tests, all but the slow ones
	@$(IN_VENV) python -m pytest --numprocesses=$(WORKERS) --maxprocesses=4 --dist=worksteal $(ARGS)

test-slow: $(TOOLS) ## run the slow tests: the whole pipeline, experiments and sweeps
	@$(IN_VENV) python -m pytest -m slow $(ARGS)

lint: $(TOOLS) ## check style and types, and that params.yaml is not older than conf/
	@$(IN_VENV) ruff check .
	@$(IN_VENV) ruff format --check .
	@$(IN_VENV) mypy
	@$(IN_VENV) $(FRESH)

format: $(TOOLS) ## put the code in the one style, and mend what can be mended
	@$(IN_VENV) ruff check --fix-only --quiet .
	@$(IN_VENV) ruff format .

params: $(READY) ## compile conf/ to params.yaml; ARGS="data=folder phase2.epochs=5" chooses and sets
	@$(IN_VENV) python -m thaw.config $(ARGS)

docs: $(TOOLS) ## write the tables of the guides, after a field, an option, a network or a docstring of a module changed
	@$(IN_VENV) python -m docs.tables

site: $(TOOLS) ## build the guides as a site in build/site; read it by `python -m http.server -d build/site`
	@$(IN_VENV) python -m docs.pages && python -m zensical build --strict $(ARGS)

sweep: .in-git $(READY) ## try several configurations, those of conf/sweep.yaml or of ARGS, one DVC experiment each
	@$(IN_VENV) python -m thaw.sweep $(ARGS)

ui: $(READY) ## show the runs: MLflow on 127.0.0.1, port 5000 or PORT
	@$(IN_VENV) exec python -m thaw.commands ui --port "$(PORT)" $(ARGS)

lock: ## choose the newest versions that pyproject.toml allows, for all locks; needs uv
	@command -v $(UV) >/dev/null || { echo "make lock: expected the program uv, found none; install it, or UV=PATH" >&2; exit 1; }
	$(UV) pip compile $(LOCK) --output-file requirements/cpu.txt
	$(UV) pip compile $(LOCK) --extra gpu --output-file requirements/gpu.txt
	$(UV) pip compile $(LOCK) $(DEV) --constraint requirements/cpu.txt --output-file requirements/dev.txt
	$(UV) pip compile $(LOCK) $(SWEEPS) --constraint requirements/dev.txt --output-file requirements/sweeps.txt

# No index host: it is the user's choice where packages come from.
LOCK = pyproject.toml --quiet --upgrade --extra sample --extra lite --extra s3 --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-annotate --no-header

# What tests, checks and the site need besides, and all that the first lock has.
DEV = --extra dev --extra docs --extra hub

# What sweeps may use besides, and all that the first lock has: docs/cluster.md
SWEEPS = --extra joblib --extra optuna --extra ray --extra slurm

clean: ## remove what tools cache, the activation cache and the cache of validated images; data, models and runs stay
	rm -rf .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info .thaw/activations .thaw/triage
	find conf stages tests thaw -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## clean, and remove the environment .venv as well
	rm -rf .venv .venv.lock

# An environment that was made for another folder, or whose Python is gone, does not count.
MADE_FOR := $(shell test -x "$(VENV)/bin/python" && cat "$(VENV)"/.installed-* 2>/dev/null)
ifneq ($(MADE_FOR),$(CURDIR))
$(STAMP): again
endif

ifneq ($(SETTING_UP),alone)
# One at a time, in a second make, which finds it done where another has done it meanwhile. The lock is a file's and not
# a file: it ends with the last process of the set-up, also with one that was killed. `flock` is not on every system.
define ALONE
import contextlib, fcntl, os, sys
lock, held = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o644), []
os.set_inheritable(lock, True)
with contextlib.suppress(OSError):
    held.append(fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB))
if not held:
    print("make: another make is setting this environment up; waiting for it", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(lock, fcntl.LOCK_EX)
os.execvp(sys.argv[2], sys.argv[2:])
endef
export ALONE

$(TOOLS_STAMP): $(STAMP) requirements/dev.txt
	@exec "$(VENV)/bin/python" -c "$$ALONE" "$(VENV).lock" $(MAKE) --silent SETTING_UP=alone "$(TOOLS_STAMP)"

$(STAMP): requirements/$(DEVICE).txt pyproject.toml
	@for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python "$(VENV)/bin/python") ""; do \
		"$$python" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
			2>/dev/null && break; \
	done; \
	if [ -z "$$python" ]; then \
		echo "make: expected Python 3.11, 3.12 or 3.13 with its module venv, found none;" \
			"install one, or name it: make PYTHON=PATH" >&2; \
		exit 1; \
	fi; \
	mkdir -p "$(dir $(VENV))" && \
	exec "$$python" -c "$$ALONE" "$(VENV).lock" $(MAKE) --silent SETTING_UP=alone SET_UP_WITH="$$python" "$(STAMP)"
else
# Only .venv is ever emptied; another folder may be somebody's environment.
$(STAMP): requirements/$(DEVICE).txt pyproject.toml
	@rm -f "$(VENV)"/.installed-*
	@if [ "$(MADE_FOR)" != "$(CURDIR)" ] && { [ "$(VENV)" = .venv ] || [ ! -x "$(VENV)/bin/python" ]; }; then \
		"$(SET_UP_WITH)" -m venv $(if $(filter .venv,$(VENV)),--clear) "$(VENV)" || exit 1; \
	fi; \
	echo "Setting up $(VENV) with $$("$(VENV)/bin/python" --version) and requirements/$(DEVICE).txt:" \
		"a few minutes the first time"
	@"$(VENV)/bin/python" -m pip install --quiet --require-hashes --requirement requirements/$(DEVICE).txt
	@"$(VENV)/bin/python" -m pip install --quiet --no-deps --no-build-isolation --editable .
	@echo "$(CURDIR)" > "$(STAMP)"

# Without what they depend on: the lock names it all, and on a GPU TensorFlow is there already with more of it.
$(TOOLS_STAMP): $(STAMP) requirements/dev.txt
	@echo "Adding to $(VENV) what tests and checks need: requirements/dev.txt"
	@"$(VENV)/bin/python" -m pip install --quiet --no-deps --require-hashes --requirement requirements/dev.txt
	@touch "$(TOOLS_STAMP)"
endif
