.PHONY: fuzz
fuzz: $(VENV)/.all ## atheris on decoding, REST bodies and replies, FUZZ_SECONDS (60) each; needs pip install atheris
	$(BIN)/python -m tests.fuzz
