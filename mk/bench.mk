BENCH_SECONDS ?= 300

.PHONY: bench
bench: $(VENV)/.all ## the service against the plain path, whole and in stages, in about BENCH_SECONDS (300): reports/bench/
	PYTHONPATH=plugins $(BIN)/python -m tests.bench.run --seconds $(BENCH_SECONDS)

.PHONY: bench-instructions
bench-instructions: $(VENV)/.all ## instructions per trade and stage beside the committed figures; UPDATE=1 replaces those
	$(BIN)/python -m tests.bench.instructions $(if $(UPDATE),--update)

.PHONY: profile
profile: $(VENV)/.all ## where the time of the whole service goes, as a flame graph: reports/bench/profile.svg
	PYTHONPATH=plugins $(BIN)/python -m tests.bench.profile
