"""Attacks by strangers on the real processes, each with the outcome that must hold (``make attack``)."""
