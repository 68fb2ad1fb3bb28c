"""Drills on the real parts, longer than a test: ``python -m tests.campaigns.drills.<name>`` or a make target."""
