# Two commands, each complete in itself: they create .venv, install the tested set of packages, and run.
#
#   make sweep    the main job: does depth help? (digits, minutes, no download)
#   make test     the tests, but for those that take long
#
# And for those who change the code:
#
#   make check    style, types and spelling (CONTRIBUTING.md)
#   make lint     the same without installing anything first
#   make test-slow     the tests that take long; `make test` and `make test-slow` are all of them
#   make test-maths    the tests of what is computed: learners, returns, environments, language (under a minute)
#   make test-newest   the tests that touch Ray with the newest Ray and torch (constraints-newest.txt)
#
# And for a cluster (docs/cluster):
#
#   make cluster-token   the secret that lets drivers and nodes join, in ~/.ray/auth_token
#   make test-cluster    `ray up` end to end, on three simulated hosts (root on Linux)
#   make test-slurm      sbatch end to end, on a Slurm of two nodes that it starts (root on Linux)

VENV := .venv
NEWEST := .venv-newest
RUN := $(VENV)/bin/python

.PHONY: sweep test test-slow test-maths test-newest check lint test-cluster test-slurm cluster-token install clean

sweep: install
	$(RUN) experiments/depth_sweep.py

test: install
	$(RUN) -m pytest -m "not slow"

test-slow: install
	$(RUN) -m pytest -m slow

check: $(VENV)/checks
	$(MAKE) lint

# The settings of each are in pyproject.toml. All of them run, whatever the first ones find.
lint:
	@status=0; \
	for tool in "ruff check" "ruff format --check" codespell mypy; do \
	  echo "$$tool"; $(VENV)/bin/$$tool || status=1; \
	done; \
	exit $$status

# A wrong sign, index, seed or schedule in labs/rl or labs/language makes one of these fail; none needs Ray.
MATHS := tests/rl/agents tests/rl/envs tests/rl/rollouts/test_collector.py tests/rl/test_trainers.py \
	tests/rl/test_evaluation.py tests/rl/comparison/test_settings.py \
	tests/language/char_gpt/test_update_rule.py tests/language/char_gpt/test_model.py \
	tests/language/topics/test_classifier.py tests/language/topics/test_study.py \
	tests/language/test_sampling.py tests/language/embeddings/test_passes.py

test-maths: install
	$(RUN) -m pytest $(MATHS)

test-newest: $(NEWEST)/installed
	$(NEWEST)/bin/python -m pytest -m ray

test-cluster: install
	$(RUN) tests/cluster/end_to_end_ray_up.py

test-slurm: install
	$(RUN) tests/cluster/end_to_end_slurm.py

# Ray would make the file readable by everybody on this machine.
cluster-token:
	@umask 077; mkdir -p ~/.ray; \
	test -s ~/.ray/auth_token || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' > ~/.ray/auth_token; \
	chmod 600 ~/.ray/auth_token; echo "the cluster's token is in ~/.ray/auth_token"

install: $(VENV)/installed

# Ray has wheels for Python 3.11 to 3.13 only, so the first of these that is one of them is used.
define new_environment
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	      2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "error: Python 3.11, 3.12 or 3.13 is needed (make PYTHON=/path/to/python3.12)" >&2; exit 2; \
	fi; \
	$$found -m venv $(@D)
	$(@D)/bin/pip install --quiet --constraint $(word 2,$^) --editable '.[$(EXTRAS)]'
	touch $@
endef

EXTRAS = offline,envs,cluster,test
$(VENV)/installed: EXTRAS := $(EXTRAS),optional
$(VENV)/installed: pyproject.toml constraints.txt
	$(new_environment)

$(NEWEST)/installed: pyproject.toml constraints-newest.txt
	$(new_environment)

$(VENV)/checks: $(VENV)/installed
	$(VENV)/bin/pip install --quiet --constraint constraints.txt --editable '.[check]'
	touch $@

clean:
	rm -rf $(VENV) $(NEWEST)
