# The seven-day validation on generated days: DEMO_WEEK is eventful or calm, DEMO_SYMBOLS how many symbols.
.PHONY: validation-demo
validation-demo: $(VENV)/.all ## eight generated days in a real Prometheus, and the report on seven of them
	PYTHONPATH=plugins $(BIN)/python -m tests.support.validation_demo \
		--week $(or $(DEMO_WEEK),eventful) --symbols $(or $(DEMO_SYMBOLS),50) --reports $(or $(REPORTS),reports)
