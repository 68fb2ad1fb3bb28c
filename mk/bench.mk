BENCH_SECONDS ?= 300
CRYPTOFEED := .cache/cryptofeed

.PHONY: bench
bench: $(VENV)/.all ## the service against the plain path, whole and in stages, in about BENCH_SECONDS (300): reports/bench/
	PYTHONPATH=plugins $(BIN)/python -m tests.bench.run --seconds $(BENCH_SECONDS) $(if $(ONLY),--only $(ONLY))

# Its releases from 2.5 on need a later Python than 3.11: another interpreter that has it is named by
# BENCH_CRYPTOFEED_PYTHON, and that variable set to nothing leaves it out.
$(CRYPTOFEED)/.complete: tests/bench/cryptofeed.txt | $(BIN)/python
	$(BIN)/python -m venv --clear $(CRYPTOFEED)
	$(CRYPTOFEED)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r tests/bench/cryptofeed.txt
	@touch $@

.PHONY: bench-cryptofeed
bench-cryptofeed: $(CRYPTOFEED)/.complete ## cryptofeed into an environment of its own, so that make bench measures it, too

.PHONY: bench-instructions
bench-instructions: $(VENV)/.all ## instructions per trade and stage beside the committed figures; UPDATE=1 replaces those
	$(BIN)/python -m tests.bench.instructions $(if $(UPDATE),--update)

.PHONY: profile
profile: $(VENV)/.all ## where the time of the whole service goes, as a flame graph: reports/bench/profile.svg
	PYTHONPATH=plugins $(BIN)/python -m tests.bench.profile
