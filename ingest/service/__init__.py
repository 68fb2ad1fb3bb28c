"""The service: the one place that builds the parts, and the one TaskGroup that runs them (``ingest.service.app``)."""
