"""Verdicts against known truth: ``make verdicts``."""
