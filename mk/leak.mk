.PHONY: leak-score
leak-score: $(VENV)/.all ## how often the leak score is wrong on generated series (SERIES of each kind, 200): reports/leak/
	mkdir -p reports/leak
	$(BIN)/python -m tests.bench.leak_score --series $(or $(SERIES),200) --json reports/leak/score.json
