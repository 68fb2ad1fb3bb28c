"""What starts the real Kafka, as far as it needs none."""

import uuid

from tests.support.kafka import new_cluster_id


def test_no_cluster_s_id_is_taken_for_an_option() -> None:
    drawn = [uuid.UUID(bytes=b"\xf8" + bytes(15)), uuid.UUID(bytes=b"\xfb" + bytes(15)), uuid.UUID(int=0)]
    assert new_cluster_id(lambda: drawn.pop(0)) == "A" * 22
    assert drawn == []
