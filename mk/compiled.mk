.PHONY: compiled
compiled: $(VENV)/.all ## the hot path compiled to C, as the image has it, in build/compiled (needs a C compiler)
	$(BIN)/python -m tests.support.compiled
