"""In which partition a key lies: the hash of the Java client and of the writer's partitioner ``murmur2_random``."""

_MULTIPLIER = 0x5BD1E995
_SEED = 0x9747B28C
_MASK = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Return the 32 bits of MurmurHash2 as Kafka's clients compute them. Pure."""
    value = (_SEED ^ len(key)) & _MASK
    whole = len(key) & ~3
    for place in range(0, whole, 4):
        block = int.from_bytes(key[place : place + 4], "little") * _MULTIPLIER & _MASK
        block = (block ^ block >> 24) * _MULTIPLIER & _MASK
        value = (value * _MULTIPLIER & _MASK) ^ block
    if len(key) > whole:
        value = (value ^ int.from_bytes(key[whole:], "little")) * _MULTIPLIER & _MASK
    value = (value ^ value >> 13) * _MULTIPLIER & _MASK
    return value ^ value >> 15


def partition_of(key: bytes, count: int) -> int:
    """Return the partition of a key in a topic with ``count`` partitions."""
    return (murmur2(key) & 0x7FFFFFFF) % count


def places(key: bytes, count: int) -> list[int]:
    """Where records of a key can lie: its partition now, then those it had while the topic had fewer of them."""
    return list(dict.fromkeys(partition_of(key, number) for number in range(count, 0, -1)))
