"""Keys are placed as the Java client places them."""

import pytest

from ingest.kafka.placing import murmur2, partition_of, places


# The values are those of org.apache.kafka.common.utils.UtilsTest.
@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_the_hash_is_the_java_clients(key: bytes, expected: int) -> None:
    assert murmur2(key) == expected & 0xFFFFFFFF


def test_a_key_lies_in_its_partition_and_lay_in_those_of_a_smaller_topic() -> None:
    assert places(b"BTCUSDT", 1) == [0]
    found = places(b"BTCUSDT", 12)
    assert found[0] == partition_of(b"BTCUSDT", 12)
    assert set(found) == {partition_of(b"BTCUSDT", count) for count in range(1, 13)}
