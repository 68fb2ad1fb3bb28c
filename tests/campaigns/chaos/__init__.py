"""Proof under fire: mutants that must be caught, and a chaos runner on the real processes."""
