# Blue-green deployments on the real parts.
.PHONY: deploy-drill
deploy-drill: $(VENV)/.all ## good and bad versions deployed over real Kafka and Prometheus (FAULTS="leaks alters")
	PYTHONPATH=plugins:. $(BIN)/python -m tests.ops.deployment.drill $(FAULTS)

.PHONY: handovers
handovers: $(VENV)/.all ## HANDOVERS (100) hand-overs at RATE (5000) trades/s: gap, roll-back, lost, duplicated
	PYTHONPATH=plugins:. $(BIN)/python -m tests.ops.deployment.handovers

.PHONY: deploy-airflow
deploy-airflow: $(VENV)/.all ## deployments under a real Airflow: scheduler, triggerer, agent killed at every step (half an hour; ONLY=good_version)
	$(BIN)/python -m pytest -q -s -m slow tests/ops/deployment/test_airflow.py $(if $(ONLY),-k "$(ONLY)")
