# Soaks. SOAK are further options of pytest, e.g. SOAK='--soak-seconds 300 --soak-rate 500'.
.PHONY: soak-1h
soak-1h: $(VENV)/.all ## one hour on the simulator, judged and reported (SOAK='--soak-seconds 120' for a trial)
	$(BIN)/python -m pytest -q -s -m soak tests/soak/test_binance_1h_validation.py $(SOAK)

.PHONY: soak-24h
soak-24h: $(VENV)/.all ## one day on the simulator, or on Binance with SOAK='--soak-exchange binance'
	$(BIN)/python -m pytest -q -s -m soak tests/soak/test_binance_24h_soak.py $(SOAK)

.PHONY: soak-calibration
soak-calibration: $(VENV)/.all ## how often the soak's memory verdict is wrong on planted leaks (WRITE=--write keeps it)
	PYTHONPATH=plugins $(BIN)/python -m ingest_ops soak calibrate --series $(or $(SERIES),200) $(WRITE)

.PHONY: soak-airflow
soak-airflow: $(VENV)/.all ## the soak DAG under a real scheduler: passes, fails fast, survives kill -9
	$(BIN)/python -m pytest -q -s -m slow tests/soak/test_airflow.py

.PHONY: soak-compression
soak-compression: $(VENV)/.all ## one planted leak at 1x and at 24x: judged alike within 10 %
	$(BIN)/python -m pytest -q -s -m soak tests/soak/test_compression.py
