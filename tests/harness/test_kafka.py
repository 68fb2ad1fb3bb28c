"""What starts the real Kafka, as far as it needs none."""

import socket
import uuid
from pathlib import Path

from tests.harness import kafka
from tests.harness.kafka import free_ports, new_cluster_id


def test_no_cluster_s_id_is_taken_for_an_option() -> None:
    drawn = [uuid.UUID(bytes=b"\xf8" + bytes(15)), uuid.UUID(bytes=b"\xfb" + bytes(15)), uuid.UUID(int=0)]
    assert new_cluster_id(lambda: drawn.pop(0)) == "A" * 22
    assert drawn == []


def test_ports_are_given_once_and_are_none_that_the_kernel_gives_to_anybody() -> None:
    ports = [*free_ports(50), *free_ports(50)]
    assert len(set(ports)) == 100
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert not [port for port in ports if low <= port <= high]
    for port in ports[:5]:
        with socket.socket() as one:
            one.bind(("127.0.0.1", port))


def test_the_release_under_test_is_the_one_of_the_stack() -> None:
    compose = (kafka.ROOT / "docker-compose.yaml").read_text()
    stated = kafka.stated_version()
    assert f"image: apache/kafka:{stated}\n" in compose
