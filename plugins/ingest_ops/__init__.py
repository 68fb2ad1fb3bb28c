"""What operators do: deployments, soaks, validation and their reports; Airflow's operators on top."""
