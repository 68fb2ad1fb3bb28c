"""Merkle trees as in RFC 9162, section 2.1.1: SHA-256, leaves and nodes distinguished by their first byte.

Hashes of many rows are computed at once: rows of equal length are a matrix of bytes.
"""

import hashlib
import uuid
from functools import cache
from typing import Any, Final

import numpy as np
from datafusion import SessionConfig, SessionContext, col, functions
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
"""A matrix: one row of bytes each."""

DIGEST: Final = 32
LEAF: Final = 0
NODE: Final = 1
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()
"""Root of a tree without a leaf."""

CHUNK: Final = 1 << 16
"""Leaves that are reduced at once; a power of two."""
FEW: Final = 512
"""Up to this many rows a loop over hashlib is faster than a query."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of one leaf."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def sha256_rows(rows: Bytes) -> Bytes:
    """SHA-256 of each row of a matrix."""
    count, width = rows.shape
    if count <= FEW:
        raw = rows.tobytes()
        digests = b"".join(hashlib.sha256(raw[at : at + width]).digest() for at in range(0, count * width, width))
        return np.frombuffer(digests, dtype=np.uint8).reshape(count, DIGEST)
    return _sha256_query(rows)


@cache
def _context() -> SessionContext:
    """One partition: with several the rows come back in another order."""
    return SessionContext(SessionConfig().with_target_partitions(1).with_batch_size(CHUNK))


def _sha256_query(rows: Bytes) -> Bytes:
    import pyarrow as pa

    count, width = rows.shape
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int32)
    values = np.ascontiguousarray(rows)
    column = pa.BinaryArray.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(values)])
    context, name = _context(), uuid.uuid4().hex
    try:
        frame = context.from_arrow(pa.table({"row": column}), name=name)
        found: Any = frame.select(functions.sha256(col("row")).alias("digest")).to_arrow_table()
    finally:
        context.deregister_table(name)  # the context would hold the rows for good
    found = found.column(0).combine_chunks()
    array = found.chunk(0) if hasattr(found, "chunk") else found
    _, _, data = array.buffers()
    first = array.offset * DIGEST
    return np.frombuffer(data, dtype=np.uint8)[first : first + count * DIGEST].reshape(count, DIGEST)


def leaf_hashes(rows: Bytes) -> Bytes:
    """Hashes of leaves; each row is the content of one."""
    return sha256_rows(_prefixed(rows, LEAF))


def _prefixed(rows: Bytes, first: int) -> Bytes:
    made = np.empty((len(rows), rows.shape[1] + 1), dtype=np.uint8)
    made[:, 0] = first
    made[:, 1:] = rows
    return made


def _reduced(hashes: Bytes) -> bytes:
    """Root of a tree with these leaves, one or more. The last one of an odd level goes up as it is."""
    while len(hashes) > 1:
        pairs = len(hashes) // 2
        parents = sha256_rows(_prefixed(hashes[: 2 * pairs].reshape(pairs, 2 * DIGEST), NODE))
        hashes = parents if 2 * pairs == len(hashes) else np.concatenate([parents, hashes[-1:]])
    return bytes(hashes[0])


class MerkleTree:
    """Takes hashes of leaves in order; memory is bounded by one chunk, whatever the number of leaves."""

    def __init__(self) -> None:
        self.leaves = 0
        self._whole: list[tuple[int, bytes]] = []
        """Complete subtrees from the left: number of leaves (powers of two, falling) and root."""
        self._waiting: list[Bytes] = []
        self._waits = 0

    def add(self, hashes: Bytes) -> None:
        """Append hashes of leaves, one a row."""
        self.leaves += len(hashes)
        while self._waits + len(hashes) >= CHUNK:
            taken = CHUNK - self._waits
            self._push(CHUNK, _reduced(np.concatenate([*self._waiting, hashes[:taken]])))
            hashes, self._waiting, self._waits = hashes[taken:], [], 0
        if len(hashes):
            self._waiting.append(hashes)
            self._waits += len(hashes)

    def _push(self, leaves: int, root: bytes) -> None:
        while self._whole and self._whole[-1][0] == leaves:
            _, left = self._whole.pop()
            leaves, root = 2 * leaves, node_hash(left, root)
        self._whole.append((leaves, root))

    def root(self) -> bytes:
        """Root over everything added so far."""
        parts = [root for _, root in self._whole]
        if self._waiting:
            parts.append(_reduced(np.concatenate(self._waiting)))
        if not parts:
            return EMPTY_ROOT
        root = parts.pop()
        while parts:
            root = node_hash(parts.pop(), root)
        return root


def root_of(leaves: list[bytes]) -> bytes:
    """Root over a few leaves of any length."""
    tree = MerkleTree()
    if leaves:
        tree.add(np.frombuffer(b"".join(map(leaf_hash, leaves)), dtype=np.uint8).reshape(len(leaves), DIGEST))
    return tree.root()
