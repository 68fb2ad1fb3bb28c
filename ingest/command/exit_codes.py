"""The exit codes of every command. 1 is a verdict that figures prove, and nothing else ends with it."""

DONE = 0
"""Done; PASS; healthy; drained or superseded by a newer writer."""
FAIL = 1
"""A verdict: the audit, the soak, the report or the health check has figures that say FAIL."""
UNUSABLE = 2
"""Nothing was judged or done: bad options or settings, or a file that cannot be read or written."""
INCONCLUSIVE = UNUSABLE
"""The verdict of a command that could not judge."""
CANNOT_WORK = 3
"""It cannot work until a person changes something; the last line of the log says what."""
CRASHED = 70
"""An error that no code expected; the traceback is on standard error."""
TRY_AGAIN = 75
"""Kafka, the registry or the exchange does not answer now; the same command may work later."""
INTERRUPTED = 130
"""Ended by Ctrl-C."""
NO_READER = 141
"""Standard output was closed before everything was written."""

TABLE: tuple[tuple[int, str, str], ...] = (
    (DONE, "done", "done; PASS; healthy; `run`: drained, or superseded by a newer writer"),
    (FAIL, "FAIL", "a verdict with figures: `audit`, `soak`, `report`, `validate`: FAIL; `health`: not healthy"),
    (UNUSABLE, "unusable", "bad options or settings, an unusable file; INCONCLUSIVE: nothing could be judged"),
    (CANNOT_WORK, "cannot work", "cannot work until a person changes something; the last line says what"),
    (CRASHED, "crashed", "an unexpected error, with a traceback on standard error"),
    (TRY_AGAIN, "try again", "Kafka, the registry or the exchange does not answer now"),
    (INTERRUPTED, "interrupted", "Ctrl-C"),
    (NO_READER, "no reader", "standard output was closed before everything was written"),
)
"""For the reference: code, name, meaning."""
