"""The service: the one place that builds the parts, and the one TaskGroup that runs them."""

from ingest.service.app import run

__all__ = ["run"]
