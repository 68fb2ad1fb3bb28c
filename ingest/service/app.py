"""The composition root: the only place that builds things, and the only TaskGroup of the service.

The nesting of context managers is the order of shutting down: first the feed stops, then the writer commits what is
here, then the clients close.
"""

import asyncio
import json
import logging
import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from ingest import __version__
from ingest.binance.feed import Feed
from ingest.binance.health import StallMonitor
from ingest.binance.history import History
from ingest.binance.symbols import SymbolInfo, refresh, resolve
from ingest.binance.tls import client_context
from ingest.control.server import ControlServer, StatusServer
from ingest.core.errors import Stop
from ingest.kafka.positions import PositionsFollower
from ingest.kafka.schemas import open_encoder
from ingest.kafka.writer import Writer
from ingest.memory import MemoryMonitor
from ingest.metrics import Metrics
from ingest.service.backfill import Backfill
from ingest.service.baselines import Baselines
from ingest.service.commands import Commands
from ingest.service.pipeline import Pipeline
from ingest.service.probe import ServiceProbe, Snapshot
from ingest.service.supervisor import Supervisor
from ingest.settings import Settings

log = logging.getLogger(__name__)
