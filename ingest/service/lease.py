"""When an instance takes over by itself: at the start if no other wrote last, and after a lease without a commit."""

import asyncio
import logging
from collections.abc import Callable

from ingest.core.role import Role
from ingest.service.leadership import WriterLeadership
from ingest.settings import ServiceSettings

log = logging.getLogger(__name__)


async def run_lease(leadership: WriterLeadership, settings: ServiceSettings, monotonic: Callable[[], float]) -> None:
    """Take over at the start if there is no other writer, and later when a lease passes without a commit."""
    if settings.start_mode != "auto":
        return
    await leadership.first_state.wait()
    await leadership.ready_to_write.wait()
    lease = settings.takeover_after_seconds
    writer = leadership.state.writer if leadership.state is not None else None
    if writer is None or leadership.layout.vacant or writer.instance == settings.instance_id:
        leadership.take_over(None)
    else:
        log.info("instance %s (generation %d) wrote last; standing by", writer.instance, writer.generation)
    while True:
        before = monotonic()
        await asyncio.sleep(lease / 20)
        now = monotonic()
        if now - before > lease / 2:
            # Frozen, and thawed just now: what the writer did meanwhile has yet to be read.
            leadership.lease_seen = now
        silent = now - leadership.lease_seen
        willing = not leadership.auto_takeover_disabled and not leadership.refusal
        if leadership.role is Role.STANDBY and willing and (leadership.layout.vacant or silent >= lease):
            log.warning("no commit by any instance for %.1f s: taking over", silent)
            leadership.take_over(None)
