import hashlib
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest_ops.archive import merkle
from ingest_ops.archive.merkle import MerkleTree, leaf_hash, leaf_hashes, root_of, sha256_rows


def naive_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 9162, section 2.1.1, as it is written there."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:split]) + naive_root(leaves[split:])).digest()


def tree_of(leaves: list[bytes], parts: list[int]) -> bytes:
    tree = MerkleTree()
    rows = np.frombuffer(b"".join(leaves), dtype=np.uint8).reshape(len(leaves), -1) if leaves else None
    at = 0
    for part in [*parts, len(leaves)]:
        if rows is not None and at < len(leaves):
            tree.add(leaf_hashes(rows[at : at + part]))
            at += part
    return tree.root()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 7, 8, 9, 31, 33, 64, 100, 1000])
def test_the_root_is_that_of_the_rfc(count: int) -> None:
    leaves = [b"%08d" % number for number in range(count)]
    assert tree_of(leaves, []) == naive_root(leaves)


def test_known_roots() -> None:
    """Test vectors of the Certificate Transparency project, which the RFC describes."""
    leaves = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243")]
    assert root_of(leaves[:1]).hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert root_of(leaves[:2]).hex() == "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    assert root_of(leaves[:6]).hex() == "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"


@given(st.integers(0, 700), st.lists(st.integers(1, 90), max_size=12))
def test_pieces_do_not_matter(count: int, parts: list[int]) -> None:
    leaves = [b"%06d" % number for number in range(count)]
    assert tree_of(leaves, parts) == naive_root(leaves)


def test_chunks_are_subtrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merkle, "CHUNK", 8)
    for count in range(70):
        leaves = [b"%04d" % number for number in range(count)]
        assert tree_of(leaves, [3, 11, 1, 20]) == naive_root(leaves), count


def test_more_than_one_chunk() -> None:
    count = merkle.CHUNK + 3
    leaves = [number.to_bytes(4, "big") for number in range(count)]
    assert tree_of(leaves, [1000, 70_000]) == naive_root(leaves)


@pytest.mark.parametrize("count", [1, merkle.FEW, merkle.FEW + 1, 3000, 100_000])
def test_hashes_of_rows(count: int) -> None:
    data = random.Random(count).randbytes(count * 50)
    found = sha256_rows(np.frombuffer(data, dtype=np.uint8).reshape(count, 50))
    assert found.shape == (count, 32)
    expected = b"".join(hashlib.sha256(data[at : at + 50]).digest() for at in range(0, len(data), 50))
    assert found.tobytes() == expected


def test_hashed_rows_are_let_go() -> None:
    sha256_rows(np.zeros((merkle.FEW + 1, 50), dtype=np.uint8))
    assert merkle._context().catalog().schema().names() == set()


def test_a_leaf_is_no_node() -> None:
    left, right = leaf_hash(b"a"), leaf_hash(b"b")
    assert leaf_hash(left + right) != merkle.node_hash(left, right)
