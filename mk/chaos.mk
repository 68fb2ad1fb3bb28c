# Proof under fire, from milliseconds to hours.
.PHONY: seeds
seeds: $(VENV)/.all ## the core under virtual time: SEEDS (100000) seeds of faults on models of exchange and broker
	SEEDS=$(or $(SEEDS),100000) $(BIN)/python -m pytest -q tests/deterministic/test_seeds.py

.PHONY: chaos
chaos: $(VENV)/.all ## faults of all kinds on the real processes (CHAOS_SEED, CHAOS_FAULTS, CHAOS_SECONDS, CHAOS_SYMBOLS, CHAOS_RATE, CHAOS_SIMULATOR, CHAOS_CRASHES)
	PYTHONPATH=plugins $(BIN)/python -m tests.chaos

.PHONY: mutants
mutants: $(VENV)/.all ## every planted fault on the real processes: each must be caught (MUTANTS; MUTANTS_WITHOUT_CONTROL=1 leaves the controls out)
	PYTHONPATH=plugins $(BIN)/python -m tests.chaos.hunt

.PHONY: faults
faults: $(VENV)/.all ## rows 1 to 21 of the fault table over real sockets, audited one by one (ROWS, TIMES)
	PYTHONPATH=plugins $(BIN)/python -m tests.faults
