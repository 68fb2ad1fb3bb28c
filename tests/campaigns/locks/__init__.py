"""Proof that an installation by lock gets the locked files and nothing else, whatever the index offers."""
