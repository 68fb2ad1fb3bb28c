"""Where recorded traffic is, if it is anywhere: ``K2_RECORDINGS_DIR``, or beside the checkout."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BTCUSDT_TRADES = "binance-spot/hft_20240808-09_btcusdt.trade.ws.ndjson"
BTCUSDT_FULL = "binance-spot/hft_20240808-09_btcusdt.full.ws.ndjson.gz"
BTCUSDT_TRADES_COUNT = 19_904


def recordings_dir() -> Path | None:
    """The folder of recordings, or None: they are never part of the project."""
    configured = os.environ.get("K2_RECORDINGS_DIR")
    folder = Path(configured) if configured else ROOT.parent / "shared" / "data" / "binance-recordings"
    return folder if folder.is_dir() else None


def recording(name: str) -> Path | None:
    """One recording, or None where it is absent."""
    folder = recordings_dir()
    path = folder / name if folder is not None else None
    return path if path is not None and path.is_file() else None
