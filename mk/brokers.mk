# Faults that need a broker of their own kind.
.PHONY: chaos-cluster
chaos-cluster: $(VENV)/.all ## three brokers, a full disk, wrong passwords, ACLs, sizes: each fault audited (ROWS, TIMES)
	PYTHONPATH=plugins $(BIN)/python -m tests.brokers
