# The stack on Docker. stack-test needs a running Docker; what cannot be pulled is built (debootstrap, Maven, Go).
.PHONY: secrets
secrets: ## make the secrets that are missing, and turn the control API on in .env
	./deploy/secrets.sh

.PHONY: stack-test
stack-test: $(VENV)/.all ## images and compose stack: up, checked, Kafka taken away, alerts seen, audited, down (STACK_AIRFLOW=1: deployed to)
	$(BIN)/python -m tests.stack

.PHONY: rules
rules: $(VENV)/.all ## write alert rules, dashboards and their reference again
	$(BIN)/python -m deploy.generate
