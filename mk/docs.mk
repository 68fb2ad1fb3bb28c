# The documentation, tried.
.PHONY: tutorial
tutorial: $(VENV)/.all ## follow the tutorial word for word, demo, deployment and week included (about eight minutes)
	$(BIN)/python -m pytest -q -s -m slow tests/docs/test_tutorial.py

.PHONY: demo-picture
demo-picture: $(VENV)/.demo ## the picture in the README, from what the last `make demo` measured: docs/images/demo.svg
	$(BIN)/python -m tests.demo.picture
