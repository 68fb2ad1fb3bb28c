# `make` alone lists the targets. Everything that is installed goes into .venv.
# A line "##@ Title" begins a section of the list; "target: needs ## text" is one line of it.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
PYTHON313 ?= python3.13
# Another interpreter to test with: Debian 12's 3.11.2 is the oldest that is supported.
K2_TEST_PYTHON ?= /usr/bin/python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -I -m pip --disable-pip-version-check
# Where pip installs is not for the caller's environment to say.
unexport PIP_TARGET PIP_PREFIX PIP_ROOT PIP_USER

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^##@ / {printf "\n%s\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-22s %s\n", $$1, $$2}' Makefile

##@ Install and try

# One virtual environment, filled as far as a target needs it. tools/environment.py finds out whether something is to be
# done, as also a broken environment has the files by which make would judge.
ENVIRONMENT = $(PYTHON) -m tools.environment --venv $(VENV) --projects $(if $(filter file,$(origin PYTHON)),,--chosen)
define CHECK_PYTHON
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	|| { echo "K2 Ingest needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 2; }
endef

.PHONY: always
$(VENV)/.demo: always
	$(CHECK_PYTHON)
	@$(ENVIRONMENT) requirements/demo.txt

$(VENV)/.all: always
	$(CHECK_PYTHON)
	@$(ENVIRONMENT) requirements/all.txt

.PHONY: install
install: $(VENV)/.all ## install everything, tools of development included

.PHONY: demo
demo: $(VENV)/.demo ## the main job end to end, with faults, in DEMO_SECONDS (60)
	$(BIN)/python -m tests.campaigns.demo

.PHONY: kafka
kafka: $(VENV)/.demo ## one real Kafka in the foreground, on port 9092
	$(BIN)/python -m tests.harness.kafka_foreground --port 9092

.PHONY: apicurio
apicurio: $(VENV)/.demo ## the real schema registry (Apicurio) in the foreground, on port 8081
	$(BIN)/python -m tests.harness.apicurio --port 8081

.PHONY: registry
registry: $(VENV)/.demo ## a small schema registry in the foreground, on port 8081
	$(BIN)/python -m tests.harness.registry --port 8081

.PHONY: clean
clean: ## remove what the targets made, the virtual environment excepted
	rm -rf .cache build dist docs/_build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

##@ Check a change

.PHONY: test
test: $(VENV)/.all ## unit tests, then those that need the real Kafka, Prometheus and processes
	$(UNIT)
	$(TWICE)
UNIT = $(BIN)/python -m pytest -q -n 2 --dist worksteal -m 'not integration and not slow and not soak'
# A module stays in one worker, whose broker and service it shares; most of its time is waiting, so that three of them
# fit on two cores.
INTEGRATION = $(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m 'integration and not slow and not soak'
TWICE = $(INTEGRATION) || { echo "== what failed runs once more, alone: what fails twice fails the run"; $(ONCE_MORE); }
# Without another test beside it: a failure that only a busy machine explains stays in the output and does not end the run.
ONCE_MORE = $(BIN)/python -m pytest -q --last-failed --last-failed-no-failures none -m 'integration and not slow and not soak'

.PHONY: test-unit
test-unit: $(VENV)/.all ## unit tests alone
	$(UNIT)

.PHONY: test-python
test-python: BIN = $(OTHER)/bin
test-python: export PYTEST_ADDOPTS = -o cache_dir=$(OTHER)/.pytest_cache
test-python: ## what `make test` runs, and the whole tutorial, on another interpreter, K2_TEST_PYTHON (/usr/bin/python3); UNIT_ONLY=1
	@$(MAKE) --no-print-directory install PYTHON=$(K2_TEST_PYTHON) VENV=$(OTHER)
	$(UNIT)
	$(if $(UNIT_ONLY),,$(TWICE))
	$(if $(UNIT_ONLY),,$(BIN)/python -m pytest -q -m slow tests/integration/docs)
OTHER = .cache/venv-$(shell $(K2_TEST_PYTHON) -c 'import sys; print(sys.version.split()[0])')

.PHONY: lint
lint: $(VENV)/.all ## style, types, import directions, spelling, shell scripts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	PYTHONPATH=.:plugins $(BIN)/lint-imports
	$(BIN)/codespell
	git ls-files -z '*.sh' .ci/run | xargs -0 -r shellcheck

.PHONY: compiled
compiled: $(VENV)/.all ## the hot path compiled to C, as the image has it, in build/compiled (needs a C compiler)
	$(BIN)/python -m tests.harness.compiled

.cache/fuzz/.complete: tests/campaigns/fuzz/atheris.txt $(VENV)/.all
	rm -rf .cache/fuzz/lib
	$(PIP) install --quiet --require-hashes --no-deps --only-binary :all: --target .cache/fuzz/lib -r $<
	@touch $@

.PHONY: fuzz
fuzz: .cache/fuzz/.complete ## everything that comes from outside under atheris, FUZZ_SECONDS (60) each: reports/fuzz/ (FUZZ, FUZZ_JOBS)
	PYTHONPATH=plugins $(BIN)/python -m tests.campaigns.fuzz

##@ Documentation

.PHONY: docs
docs: $(VENV)/.all ## the documentation as HTML in docs/_build, warnings are errors
	$(BIN)/python -m sphinx -n -W --keep-going -q -b html docs docs/_build

.PHONY: tutorial
tutorial: $(VENV)/.all ## follow the tutorial word for word, demo, deployment and week included (about eight minutes)
	$(BIN)/python -m pytest -q -s -m slow tests/integration/docs/test_tutorial.py

.PHONY: demo-picture
demo-picture: $(VENV)/.demo ## the picture in the README, from what the last `make demo` measured: docs/images/demo.svg
	$(BIN)/python -m tests.campaigns.demo.picture

.PHONY: rules
rules: $(VENV)/.all ## write alert rules, dashboards and their reference again
	$(BIN)/python -m deploy.generate

.PHONY: helm
helm: $(VENV)/.all ## the Helm chart: linted, its examples rendered, its probes and times tried on processes (K2_TEST_HELM: another helm)
	$(BIN)/python -m tests.harness.helm
	$(BIN)/python -m pytest -q -m slow tests/integration/deploy/test_helm_probes.py

##@ Packages and release

.PHONY: locks
locks: ## make the locked requirement files again from both pyproject.toml (needs uv; UPGRADE=1 for the newest versions)
	$(PYTHON) -m tools.locks make $(if $(UPGRADE),--upgrade)

.PHONY: locks-proof
locks-proof: $(VENV)/.all ## install every lock with the oldest and the newest pip from an index that offers newer versions of everything (LOCK)
	$(BIN)/python -m tests.campaigns.locks $(if $(LOCK),--lock $(LOCK))

.PHONY: wheels
wheels: $(VENV)/.all ## check that the index has every wheel of the images for x86-64 and ARM; nothing is downloaded
	$(BIN)/python -m tools.locks wheels

.cache/release/.complete: requirements/release.txt
	$(PYTHON) -m tools.environment $< --venv $(@D)
	@touch $@

.PHONY: package
package: .cache/release/.complete ## both distributions in dist/: built twice, compared, checked, installed, run (RELEASE=1 refuses placeholders)
	.cache/release/bin/python -m tools.package $(if $(RELEASE),--release)

.PHONY: sbom
sbom: .cache/release/.complete ## the bill of materials of both images from their locks, CycloneDX JSON: dist/sbom-*.json
	.cache/release/bin/python -m tools.sbom

##@ Proof: models, chaos, faults
# From milliseconds to hours.

.PHONY: archive-proof
archive-proof: $(VENV)/.all ## the archive: generated days (SYMBOLS 500, DAYS 20), planted faults of the sink, kills (TIMES 20) at every step
	$(BIN)/python -m tests.campaigns.archive --symbols $(or $(SYMBOLS),500) --days $(or $(DAYS),20) --times $(or $(TIMES),20)

.PHONY: archive-airflow
archive-airflow: $(VENV)/.all ## the DAG daily_archive under a real Airflow: a scheduler killed in the middle, a late repair, a corrected file
	$(BIN)/python -m pytest -q -s -m slow tests/campaigns/archive/test_airflow.py

.PHONY: archive-bench
archive-bench: $(VENV)/.all ## how fast a day of TRADES (2000000) trades of SYMBOLS (200) is archived, in how much memory
	$(BIN)/python -m tests.campaigns.archive.bench --trades $(or $(TRADES),2000000) --symbols $(or $(SYMBOLS),200)

.PHONY: seeds
seeds: $(VENV)/.all ## the core under virtual time: SEEDS (100000) seeds of faults on models of exchange and broker
	SEEDS=$(or $(SEEDS),100000) $(BIN)/python -m pytest -q tests/campaigns/deterministic/test_seeds.py

.PHONY: chaos
chaos: $(VENV)/.all ## faults of all kinds on the real processes (CHAOS_SEED, CHAOS_FAULTS, CHAOS_SECONDS, CHAOS_SYMBOLS, CHAOS_RATE, CHAOS_SIMULATOR, CHAOS_CRASHES, CHAOS_STREAMS, CHAOS_PEERS)
	PYTHONPATH=plugins $(BIN)/python -m tests.campaigns.chaos

.PHONY: deploy-fleet
deploy-fleet: $(VENV)/.all ## deploy to two shards: one good, one that fails at the canary, one that fails at the second shard (about six minutes)
	$(BIN)/python -m pytest -q -s -m slow tests/campaigns/deployment/test_fleet.py

.PHONY: fleet
fleet: $(VENV)/.all ## instances that get shards from Kafka: killed, frozen, added, removed (FAULTS, SEED, SYMBOLS, RATE, SHARDS, INSTANCES, STANDBYS)
	$(BIN)/python -m pytest -q -m slow tests/integration/ingest/fleet
	PYTHONPATH=plugins $(BIN)/python -m tests.campaigns.fleet

.PHONY: mutants
mutants: $(VENV)/.all ## every planted fault on the real processes: each must be caught (MUTANTS, JOBS; MUTANTS_WITHOUT_CONTROL=1: no controls)
	PYTHONPATH=plugins $(BIN)/python -m tests.campaigns.chaos.hunt

.PHONY: faults
faults: $(VENV)/.all ## rows 1 to 21 of the fault table over real sockets, audited one by one (ROWS, TIMES)
	PYTHONPATH=plugins $(BIN)/python -m tests.campaigns.faults

.PHONY: field
field: $(VENV)/.all ## troubles from the field, each on the real parts, with outcome and right value (ONLY=A,C.2, QUICK=1, JOBS=4, RESUME=1)
	PYTHONPATH=plugins $(BIN)/python -m tests.campaigns.field

.PHONY: readers
readers: $(VENV)/.all ## the reader, the examples and other engines (Flink, DuckDB, polars, ccxt) on the real Kafka
	$(BIN)/python -m pytest -q -m 'integration or slow' tests/integration/ingest/reader

.PHONY: chaos-cluster
chaos-cluster: $(VENV)/.all ## three brokers, a full disk, wrong passwords, ACLs, sizes: each fault audited (ROWS, TIMES)
	PYTHONPATH=plugins $(BIN)/python -m tests.campaigns.brokers

.PHONY: kafka-release
kafka-release: $(VENV)/.all ## a Kafka release (KAFKA=4.4.0): killed KILLS (9) times after a commit, and the writer's tests
	K2_TEST_KAFKA_VERSION=$(KAFKA) $(BIN)/python -m pytest -q -m integration $(WRITER_TESTS)
	K2_TEST_KAFKA_VERSION=$(KAFKA) $(BIN)/python -m tests.campaigns.brokers.kafka_release
WRITER_TESTS := $(addprefix tests/integration/ingest/kafka/, test_writer_thread.py test_positions_reader.py) \
	tests/campaigns/chaos/test_kafka_17754.py

.PHONY: attack
attack: $(VENV)/.all ## strangers, hostile peers and forged commands at the real processes in 512 MB, each with its outcome (ATTACK_SECONDS, ONLY; as root)
	PYTHONPATH=plugins $(BIN)/python -m tests.campaigns.attack

##@ Drills on the real parts
# Each prints a table and writes reports/drills/<name>.json.

.PHONY: replay
replay: $(VENV)/.all ## recorded Binance trades at 20x, two rotations, one SIGKILL: 19,904 trades exact
	$(BIN)/python -m tests.campaigns.drills.replay

.PHONY: replay-full
replay-full: $(VENV)/.all ## the recorded market (trades, quotes, book) at 20x: rotations, a SIGKILL, a take-over; the book against the quotes
	$(BIN)/python -m tests.campaigns.drills.replay_full

.PHONY: simulator-day
simulator-day: $(VENV)/.all ## a day of 1,500 symbols on the simulator in compressed time: values and memory stay in bounds
	$(BIN)/python -m pytest -q -m slow tests/unit/ingest/simulator/test_app_days.py

.PHONY: kill-50
kill-50: $(VENV)/.all ## 50 SIGKILLs at random moments at 2,000 trades/s over 20 symbols (KILLS, SEED)
	$(BIN)/python -m tests.campaigns.drills.kill_50

.PHONY: crash
crash: $(VENV)/.all ## what a SIGKILL of the writer costs at the real request weight (KILLS, PAUSE, SYMBOLS, RATE, LIMIT_P50, LIMIT_MAX; STANDBY=0: without a standby)
	$(BIN)/python -m tests.campaigns.drills.crash

.PHONY: outage
outage: $(VENV)/.all ## the broker away for two minutes at 2,000 trades/s (OUTAGE_SECONDS)
	$(BIN)/python -m tests.campaigns.drills.outage

.PHONY: two-services
two-services: $(VENV)/.all ## two services, the writer frozen and thawed, planned hand-overs (ROUNDS, HANDOVERS)
	$(BIN)/python -m tests.campaigns.drills.two_services

.PHONY: restart-all
restart-all: $(VENV)/.all ## 1,500 symbols, SIGKILL, 20 s of nothing: until all are whole (RESTART_SYMBOLS, RESTART_RATE, RESTART_PAUSE, RESTART_LIMIT)
	$(BIN)/python -m tests.campaigns.drills.restart_all

.PHONY: sizing
sizing: $(VENV)/.all ## memory, CPU and disk for 2, 50 and 1,500 symbols (SIZING_SECONDS)
	$(BIN)/python -m tests.campaigns.drills.sizing

.PHONY: connections
connections: $(VENV)/.all ## ten minutes of rotations, shutdowns and resets at 2,000 trades/s (CONNECTION_SECONDS, PAIR=1)
	$(BIN)/python -m tests.campaigns.drills.connections

##@ Benchmarks

BENCH_SECONDS ?= 300

.PHONY: bench
bench: $(VENV)/.all ## the service against the plain path, whole and in stages, in about BENCH_SECONDS (300): reports/bench/
	PYTHONPATH=plugins $(BIN)/python -m tests.campaigns.bench.run --seconds $(BENCH_SECONDS) $(if $(ONLY),--only $(ONLY))

# Two releases of cryptofeed: the last one for this project's Python, and the newest, which needs 3.13 and was written anew.
# BENCH_CRYPTOFEED_PYTHON names other interpreters that have it, comma separated; set to nothing it leaves it out.
.cache/cryptofeed-2/.complete: CRYPTOFEED_PYTHON = $(BIN)/python
.cache/cryptofeed-3/.complete: CRYPTOFEED_PYTHON = $(PYTHON313)
.cache/cryptofeed-%/.complete: tests/campaigns/bench/cryptofeed-%.txt | $(VENV)/.all
	$(CRYPTOFEED_PYTHON) -m tools.environment $< --venv $(@D)
	@touch $@

.PHONY: bench-cryptofeed
bench-cryptofeed: .cache/cryptofeed-2/.complete ## cryptofeed beside: make bench measures it, too; PYTHON313=... for its newest
	@if $(PYTHON313) -c 'import venv' 2>/dev/null; then $(MAKE) --no-print-directory .cache/cryptofeed-3/.complete; \
		else echo "no $(PYTHON313): without cryptofeed 3; PYTHON313=/path/to/python3.13 adds it"; fi

.PHONY: bench-instructions
bench-instructions: $(VENV)/.all ## instructions per trade and stage beside the committed figures; UPDATE=1 replaces those
	$(BIN)/python -m tests.campaigns.bench.instructions $(if $(UPDATE),--update)

.PHONY: profile
profile: $(VENV)/.all ## where the time of the whole service goes, as a flame graph: reports/bench/profile.svg
	PYTHONPATH=plugins $(BIN)/python -m tests.campaigns.bench.profile

.PHONY: leak-score
leak-score: $(VENV)/.all ## how often the leak score is wrong on generated series (SERIES of each kind, 200): reports/leak/
	mkdir -p reports/leak
	$(BIN)/python -m tests.harness.leak_score --series $(or $(SERIES),200) --json reports/leak/score.json

##@ Soaks and the seven-day validation
# SOAK are further options of pytest, e.g. SOAK='--soak-seconds 300 --soak-rate 500'. DEMO_WEEK is eventful or calm.

.PHONY: soak-1h
soak-1h: $(VENV)/.all ## one hour on the simulator, judged and reported (SOAK='--soak-seconds 120' for a trial)
	$(BIN)/python -m pytest -q -s -m soak tests/campaigns/soak/test_binance_1h_validation.py $(SOAK)

.PHONY: soak-24h
soak-24h: $(VENV)/.all ## one day on the simulator, or on Binance with SOAK='--soak-exchange binance'
	$(BIN)/python -m pytest -q -s -m soak tests/campaigns/soak/test_binance_24h_soak.py $(SOAK)

.PHONY: soak-day
soak-day: $(VENV)/.all ## the 24 h plan with the market 24 times as fast: an hour, labelled compressed, never a PASS
	$(BIN)/python -m pytest -q -s -m soak tests/campaigns/soak/test_binance_24h_soak.py --soak-compressed 24 --soak-rate 40 $(SOAK)

.PHONY: verdicts
verdicts: $(VENV)/.all ## verdicts against known truth: memory families, inputs, weeks, gates, alerts (SERIES, 100): reports/verdicts/
	PYTHONPATH=plugins $(BIN)/python -m tests.campaigns.verdicts --series $(or $(SERIES),100)

.PHONY: soak-calibration
soak-calibration: $(VENV)/.all ## how often the soak's memory verdict is wrong on planted leaks (WRITE=--write keeps it)
	PYTHONPATH=plugins $(BIN)/python -m ingest_ops soak calibrate --series $(or $(SERIES),200) $(WRITE)

.PHONY: soak-airflow
soak-airflow: $(VENV)/.all ## the soak DAG under a real scheduler: passes, fails fast, survives kill -9
	$(BIN)/python -m pytest -q -s -m slow tests/campaigns/soak/test_airflow.py

.PHONY: soak-compression
soak-compression: $(VENV)/.all ## one planted leak at 1x and at 24x: judged alike within 10 %
	$(BIN)/python -m pytest -q -s -m soak tests/campaigns/soak/test_compression.py

.PHONY: validation-demo
validation-demo: $(VENV)/.all ## eight generated days in a real Prometheus, and the report on seven of them
	PYTHONPATH=plugins $(BIN)/python -m tests.harness.validation_demo \
		--week $(or $(DEMO_WEEK),eventful) --symbols $(or $(DEMO_SYMBOLS),50) --reports $(or $(REPORTS),reports)

##@ Deployments

.PHONY: deploy-drill
deploy-drill: $(VENV)/.all ## good and bad versions deployed over real Kafka and Prometheus (FAULTS="leaks --default-windows")
	PYTHONPATH=plugins:. $(BIN)/python -m tests.campaigns.deployment.drill $(FAULTS)

.PHONY: handovers
handovers: $(VENV)/.all ## HANDOVERS (100) hand-overs at RATE (5000) trades/s: gap, roll-back, lost, duplicated
	PYTHONPATH=plugins:. $(BIN)/python -m tests.campaigns.deployment.handovers

.PHONY: deploy-airflow
deploy-airflow: $(VENV)/.all ## deployments under a real Airflow: scheduler, triggerer, agent killed at every step (half an hour; ONLY=good_version)
	$(BIN)/python -m pytest -q -s -m slow tests/campaigns/deployment/test_airflow.py $(if $(ONLY),-k "$(ONLY)")

.PHONY: ui
ui: $(VENV)/.all ## Airflow and the reports in Debian's Chromium: forms, links, approvals, interruptions, themes, 390 px (half an hour; UI_ALL=1)
	$(BIN)/python -m pytest -q -m slow tests/integration/ingest_ops/render/test_browser.py tests/campaigns/ui

.PHONY: screenshots
screenshots: ui ## pictures of five pages for the documentation, from what `make ui` has seen: docs/images/*.png
	$(BIN)/python -m tests.campaigns.ui.pictures

##@ The stack on Docker
# stack-test needs a running Docker; what cannot be pulled is built (debootstrap, Maven, Go).

.PHONY: secrets
secrets: ## make the secrets that are missing, and turn the control API on in .env
	./deploy/secrets.sh

.PHONY: upgrade
upgrade: ## after git pull: renew every service of the compose stack but the slots, which a deployment renews
	./deploy/upgrade.sh

.PHONY: pin-images
pin-images: $(VENV)/.all ## write the digests of all images into deploy/pinned.yaml, an override for compose (needs Docker's buildx)
	$(BIN)/python -m tools.images

.PHONY: stack-test
stack-test: $(VENV)/.all ## images and compose stack: up, checked, Kafka taken away, alerts seen, audited, down (STACK_AIRFLOW=1: deployed to)
	$(BIN)/python -m tests.campaigns.stack
