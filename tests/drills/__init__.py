"""Drills on the real parts, longer than a test: ``python -m tests.drills.<name>``, or ``make`` with its name."""
