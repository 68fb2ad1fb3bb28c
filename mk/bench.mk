BENCH_SECONDS ?= 300
PYTHON313 ?= python3.13

.PHONY: bench
bench: $(VENV)/.all ## the service against the plain path, whole and in stages, in about BENCH_SECONDS (300): reports/bench/
	PYTHONPATH=plugins $(BIN)/python -m tests.bench.run --seconds $(BENCH_SECONDS) $(if $(ONLY),--only $(ONLY))

# Two releases of cryptofeed: the last one for this project's Python, and the newest, which needs 3.13 and was written anew.
# BENCH_CRYPTOFEED_PYTHON names other interpreters that have it, comma separated; set to nothing it leaves it out.
.cache/cryptofeed-2/.complete: CRYPTOFEED_PYTHON = $(BIN)/python
.cache/cryptofeed-3/.complete: CRYPTOFEED_PYTHON = $(PYTHON313)
.cache/cryptofeed-%/.complete: tests/bench/cryptofeed-%.txt | $(BIN)/python
	$(CRYPTOFEED_PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps -r $<
	@touch $@

.PHONY: bench-cryptofeed
bench-cryptofeed: .cache/cryptofeed-2/.complete ## cryptofeed beside: make bench measures it, too; PYTHON313=... for its newest
	@if $(PYTHON313) -c 'import venv' 2>/dev/null; then $(MAKE) --no-print-directory .cache/cryptofeed-3/.complete; \
		else echo "no $(PYTHON313): without cryptofeed 3; PYTHON313=/path/to/python3.13 adds it"; fi

.PHONY: bench-instructions
bench-instructions: $(VENV)/.all ## instructions per trade and stage beside the committed figures; UPDATE=1 replaces those
	$(BIN)/python -m tests.bench.instructions $(if $(UPDATE),--update)

.PHONY: profile
profile: $(VENV)/.all ## where the time of the whole service goes, as a flame graph: reports/bench/profile.svg
	PYTHONPATH=plugins $(BIN)/python -m tests.bench.profile
