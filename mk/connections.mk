# Connections: nothing is lost, and nothing asked for, when they end.
.PHONY: connections
connections: $(VENV)/.all ## ten minutes of rotations, shutdowns and resets at 2,000 trades/s (CONNECTION_SECONDS, PAIR=1)
	$(BIN)/python -m tests.drills.connections
