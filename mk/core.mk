# Drills of the streaming core on the real parts; each prints a table and writes reports/drills/<name>.json.
.PHONY: replay
replay: $(VENV)/.all ## recorded Binance trades at 20x, two rotations, one SIGKILL: 19,904 trades exact
	$(BIN)/python -m tests.drills.replay

.PHONY: kill-50
kill-50: $(VENV)/.all ## 50 SIGKILLs at random moments at 2,000 trades/s over 20 symbols (KILLS, SEED)
	$(BIN)/python -m tests.drills.kill_50

.PHONY: outage
outage: $(VENV)/.all ## the broker away for two minutes at 2,000 trades/s (OUTAGE_SECONDS)
	$(BIN)/python -m tests.drills.outage

.PHONY: two-services
two-services: $(VENV)/.all ## two services, the writer frozen and thawed, planned hand-overs (ROUNDS, HANDOVERS)
	$(BIN)/python -m tests.drills.two_services
