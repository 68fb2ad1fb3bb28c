"""The service: ``parts`` builds it, ``app`` runs it in one TaskGroup."""
