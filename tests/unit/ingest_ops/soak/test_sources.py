"""Where samples come from: an exposition as text, Prometheus's raw scrapes, and what either may answer instead."""

import json
from collections.abc import Callable

import httpx2
import pytest

from ingest.metrics import Metrics
from ingest_ops.soak.samples import from_exposition, increase, increase_by, restarts
from ingest_ops.soak.sources import CHUNK, EndpointSource, PrometheusSource, SourceError, source_from
from tests.unit.ingest_ops.soak.books import sample

Handler = Callable[[httpx2.Request], httpx2.Response]


@pytest.fixture
def client_of() -> Callable[[Handler], httpx2.Client]:
    return lambda handler: httpx2.Client(transport=httpx2.MockTransport(handler))


def exposition() -> str:
    from prometheus_client import generate_latest

    metrics = Metrics(symbols=["BTCUSDT", "ETHUSDT"])
    metrics.received.inc(7)
    metrics.trades_committed.labels("BTCUSDT").inc(2)
    metrics.trades_committed.labels("ETHUSDT").inc(3)
    metrics.reconnects.labels("tls").inc()
    metrics.rotations.labels("scheduled").inc(4)
    metrics.heap.set(123)
    metrics.build.info({"version": "1.2.3", "revision": "abc"})
    return generate_latest(metrics.registry).decode()


def test_the_services_own_exposition_is_read() -> None:
    found = from_exposition(5.0, exposition())
    assert found.complete
    assert (found.values["received"], found.values["committed"], found.values["heap"]) == (7, 5, 123)
    assert (found.values["drops.tls"], found.values["drops.dns"], found.values["rotations.scheduled"]) == (1, 0, 4)
    assert found.values["rss"] > 2**20


def test_an_endpoint_gives_one_sample_and_its_build(client_of: Callable[[Handler], httpx2.Client]) -> None:
    with client_of(lambda _: httpx2.Response(200, text=exposition())) as client:
        source = EndpointSource("http://service/metrics", client=client)
        assert [one.at for one in source.read(0.0, 60.0)] == [60.0]
        assert source.build() == {"version": "1.2.3", "revision": "abc"}


def _refuse(_: httpx2.Request) -> httpx2.Response:
    raise httpx2.ConnectError("refused")


@pytest.mark.parametrize(
    "handler",
    [_refuse, lambda _: httpx2.Response(503, text="no"), lambda _: httpx2.Response(200, text="{nonsense")],
    ids=["refused", "503", "nonsense"],
)
def test_what_is_no_exposition_is_a_missed_sample(
    handler: Handler, client_of: Callable[[Handler], httpx2.Client]
) -> None:
    with client_of(handler) as client:
        source = EndpointSource("http://service/metrics", client=client)
        with pytest.raises(SourceError):
            source.read(0.0, 60.0)
        assert source.build() == {}


def matrix(*rows: tuple[dict[str, str], list[tuple[float, float]]]) -> httpx2.Response:
    result = [{"metric": labels, "values": [[at, str(value)] for at, value in values]} for labels, values in rows]
    return httpx2.Response(200, json={"status": "success", "data": {"resultType": "matrix", "result": result}})


def series(name: str, instance: str = "a:1", **labels: str) -> dict[str, str]:
    return {"__name__": name, "job": "ingest", "instance": instance, **labels}


def test_raw_scrapes_are_asked_for_in_chunks_and_none_is_taken_twice(
    client_of: Callable[[Handler], httpx2.Client],
) -> None:
    asked: list[tuple[float, str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        end = float(request.url.params["time"])
        asked.append((end, request.url.params["query"].rsplit("[", 1)[1]))
        # A range that ends where the next begins: the scrape on the boundary comes twice.
        at = [end - CHUNK, end]
        return matrix(
            (series("process_resident_memory_bytes"), [(one, 1e6) for one in at]),
            (series("ingest_messages_received_total"), [(one, one) for one in at]),
        )

    with client_of(answer) as client:
        found = PrometheusSource("http://prometheus", 'job="ingest"', client=client).read(0.0, 3 * CHUNK)
    assert [one.at for one in found] == [CHUNK, 2 * CHUNK, 3 * CHUNK]
    assert asked == [(CHUNK * n, "3600000ms]") for n in (1, 2, 3)]


def test_a_selector_of_two_instances_is_no_sample(client_of: Callable[[Handler], httpx2.Client]) -> None:
    name = "process_resident_memory_bytes"
    rows = [(series(name, instance), [(5.0, 1.0)]) for instance in ("a:1", "b:1")]
    with (
        client_of(lambda _: matrix(*rows)) as client,
        pytest.raises(SourceError, match="selects 2 instances"),
    ):
        PrometheusSource("http://prometheus", 'job="ingest"', client=client).read(0.0, 60.0)


def test_two_replicas_of_prometheus_are_refused_and_not_added_up(client_of: Callable[[Handler], httpx2.Client]) -> None:
    name = "ingest_messages_received_total"
    rows = [(series(name, replica=one), [(5.0 + shift, 1.0), (20.0 + shift, 2.0)]) for shift, one in enumerate("ab")]
    with (
        client_of(lambda _: matrix(*rows)) as client,
        pytest.raises(SourceError, match='two copies of one instance: replica="a", replica="b"'),
    ):
        PrometheusSource("http://prometheus", 'job="ingest"', client=client).read(0.0, 60.0)


def test_a_target_that_was_relabelled_is_one(client_of: Callable[[Handler], httpx2.Client]) -> None:
    name = "ingest_messages_received_total"
    rows = [(series(name), [(5.0, 1.0), (20.0, 2.0)]), (series(name, zone="x"), [(35.0, 3.0), (50.0, 4.0)])]
    with client_of(lambda _: matrix(*rows)) as client:
        found = PrometheusSource("http://prometheus", 'job="ingest"', client=client).read(0.0, 60.0)
    assert [one.values["received"] for one in found] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("body", ["[]", '{"status": "error", "error": "too much"}', "no json", '{"status": "success"}'])
def test_another_answer_of_prometheus_is_a_missed_sample(
    body: str, client_of: Callable[[Handler], httpx2.Client]
) -> None:
    with (
        client_of(lambda _: httpx2.Response(200, text=body)) as client,
        pytest.raises(SourceError, match="Prometheus"),
    ):
        PrometheusSource("http://prometheus", 'job="ingest"', client=client).read(0.0, 60.0)


def test_the_labels_of_the_build_come_from_prometheus(client_of: Callable[[Handler], httpx2.Client]) -> None:
    found = {"status": "success", "data": {"result": [{"metric": {"version": "9"}, "value": [0, "1"]}]}}
    with client_of(lambda _: httpx2.Response(200, text=json.dumps(found))) as client:
        assert PrometheusSource("http://prometheus", 'job="x"', client=client).build() == {"version": "9"}


def test_a_target_is_one_of_two_kinds() -> None:
    with httpx2.Client(trust_env=False) as client:
        assert isinstance(source_from({"metrics_url": "http://a"}, client), EndpointSource)
        prometheus = source_from({"prometheus_url": "http://a", "selector": 'a="b"'}, client)
        assert isinstance(prometheus, PrometheusSource)
        with pytest.raises(ValueError, match="metrics_url"):
            source_from({}, client)


def test_counters_are_counted_through_restarts_and_later_children() -> None:
    rows = [
        sample(0.0, 0.0, received=100.0),
        sample(1.0, 1.0, received=150.0, **{"drops.dns": 2.0}),
        sample(2.0, 2.0, received=30.0, started=99.0, **{"drops.dns": 2.0}),
    ]
    assert increase(rows, "received") == 80.0
    assert {reason: count for reason, count in increase_by(rows, "drops").items() if count} == {"dns": 2}
    assert restarts(rows) == 1
    assert increase([], "received") == 0.0
