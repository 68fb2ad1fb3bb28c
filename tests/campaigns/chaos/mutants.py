"""Faults planted into the service from outside: each breaks one promise, and each must be noticed.

A mutant replaces attributes of the modules, nothing in the service knows of it. Some of them would be stopped by the
last guard before Kafka (``continuity``), which ends the process; those take the guard away, too, so that the
damage reaches the topic and the auditor must see it there.
"""

from tests.campaigns.chaos import mutants_content, mutants_edges, mutants_sequence, mutants_streams, mutants_writer
from tests.campaigns.chaos.mutant_table import MUTANTS, UNSEEN, Applied, Mutant

__all__ = ["DETERMINISTIC", "MODULES", "MUTANTS", "SEEN", "Applied", "Mutant"]

MODULES = (mutants_writer, mutants_sequence, mutants_content, mutants_edges, mutants_streams)
"""Importing them fills the table."""
DETERMINISTIC = tuple(name for name, one in MUTANTS.items() if one.seeds)
"""Those that can show on the models."""
SEEN = tuple(name for name, one in MUTANTS.items() if one.plan != UNSEEN)
"""Those whose damage the auditor can prove in the topics."""
