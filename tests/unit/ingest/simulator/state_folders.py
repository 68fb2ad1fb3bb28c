"""A ledger that is kept in a folder, and its model."""

from hypothesis import strategies as st

IDENTITY = {"seed": 1, "symbols": "A/B", "edges": False}
NAMES = ("BTCUSDT", "ETHUSDT")
ALL = 10**6

name = st.sampled_from(NAMES)
