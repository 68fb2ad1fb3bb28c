"""Every alert, in the order of the rules; each is declared once, in ``checks_data`` or ``checks_parts``.

Rules, dashboards and the list in docs/reference are made from here.

Severities: ``page`` needs an immediate response, ``ticket`` can wait for working hours, ``none`` is for machines. No
expression says ``or vector(0)``: missing data counts as bad (freshness) or fires an alert of its own
(``IngestTargetAbsent``, ``IngestAuditorAbsent``, ``MonitoringWatcherAbsent``). A condition that must last is a share of
a window, not a bare ``for``: one good sample must not reset it. ``tests/integration/deploy`` shows of each alert that
it fires, that it does not, and what it does if its target is gone, flaps, or is restarted.
"""

from deploy.checks_data import AUDIT, COMPLETENESS, FRESHNESS, WRITER
from deploy.checks_parts import EXCHANGE, KAFKA, MEMORY, MONITORING, OPERATIONS, PROCESS

ALERTS = (
    *WRITER,
    *AUDIT,
    *FRESHNESS,
    *MEMORY,
    *EXCHANGE,
    *COMPLETENESS,
    *KAFKA,
    *PROCESS,
    *OPERATIONS,
    *MONITORING,
)
