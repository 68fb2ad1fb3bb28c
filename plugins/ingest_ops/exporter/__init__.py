"""What reports and the journal say, as metrics: for the alerts that they are missing, and for the dashboards."""
