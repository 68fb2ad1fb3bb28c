"""The bounds that a market with ``--edges`` crosses by construction: where encoders, caches and floats go wrong.

Ids, prices and quantities (in units of 1e-8) and times come just before, at and just after every power of two and of
ten, multiples of 8,192 and of 10,000, and 2**53.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

INT64_MAX = 2**63 - 1
BLOCKS = (8_192, 10_000)
AROUND = (-2, -1, 0, 1, 2)
FIRST = (2**53, 10_000, 8_192, 2**23, 2**32, 2**31, 10**10, 2**16, 2**20, 10**5, 2**62, 0)
"""The edges of ids with which few symbols begin."""
LEAD = 12
"""Trades of a symbol before the first of its edges."""


def values(most: int = INT64_MAX) -> list[int]:
    """Every edge from 1 to ``most``, ascending."""
    powers = {2**bits for bits in range(63)} | {10**digits for digits in range(19)}
    blocks = {block * times for block in BLOCKS for times in (1, 2, 3, 7, 100, 2**20, 2**32)}
    beyond_varint = {2 ** (7 * size - 1) for size in range(1, 9)}  # where Avro's zigzag needs another byte
    return sorted(one for one in powers | blocks | beyond_varint | {2**53} if 1 <= one <= most)


def first_ids() -> list[int]:
    """Where symbols begin: each edge once, a little before it; two symbols for each, which share blocks of ids."""
    known = [edge for edge in values(2**62) if edge >= 2**12 and edge not in FIRST]
    return [max(0, edge - LEAD) for edge in (*FIRST, *known) for _ in range(2)]


def around(draw: random.Random, most: int) -> int:
    """A value at an edge, or next to one."""
    edge = draw.choice(_VALUES)
    while edge > most:
        edge = draw.choice(_VALUES)
    return max(1, min(most, edge + draw.choice(AROUND)))


def every_once(draw: random.Random, most: int) -> Iterator[int]:
    """Each edge with its neighbours once, in an order of the draw, and then any of them without end."""
    due = sorted({edge + step for edge in values(most) for step in AROUND if 1 <= edge + step <= most})
    draw.shuffle(due)
    yield from due
    while True:
        yield around(draw, most)


def time_at_edge(draw: random.Random, time_us: int) -> int:
    """A time not before ``time_us``, and at most a few milliseconds later, at a bound of milli- or microseconds."""
    block = draw.choice((1_000, 1_024, 8_192, 10_000))
    edge = time_us - time_us % block + block
    return max(time_us, edge + draw.choice((-1, 0, 1)))


_VALUES = values()
