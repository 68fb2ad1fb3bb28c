"""Where one process ends and another begins behind a scrape address, by the start that each states of itself."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ingest_ops.validation.day import Array

START = "process_start_time_seconds"
SAME_START = 0.005
"""One process's start differs by less from day to day and from address to address, in seconds: it is one number. The
kernel counts in hundredths, and two processes of one slot do not start within the same one."""
RESTARTED = 1.0
"""Behind one address a start that is later or earlier by more, in seconds, is that of another process.

Not less: Prometheus reads the machine's time of booting again at each scrape, and that moves when the clock is set.
"""


def replaced(started: Array) -> NDArray[np.bool_]:
    """For each sample but the first, whether another process gave it than the one before; not if a start is unknown."""
    return np.asarray(np.abs(np.diff(started)) > RESTARTED)


def process_runs(started: Array) -> list[tuple[int, int]]:
    """The stretches of one process each, as (first sample, one after the last), by its start at each sample."""
    if not len(started):
        return []
    changes = np.flatnonzero(replaced(started)) + 1
    return list(pairwise([0, *changes.tolist(), len(started)]))
