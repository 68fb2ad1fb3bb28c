"""Blue-green deployment in plain Python: the machine, its journal, its gates and its steps. Airflow is one caller."""
