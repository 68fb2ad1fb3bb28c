"""The HTTP server of an instance: what every service answers, its children below ``/shards``, and their targets."""

import http.client
import re
from collections.abc import Callable, Collection
from http import HTTPStatus
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from ingest.control.server import Probe, Process, StatusServer
from ingest.http.limits import Limits
from ingest.http.messages import HttpError, Request, Response, json_response, not_allowed

_CHILD = re.compile(r"/shards/([0-9]{1,4})(/metrics|/status|/health/live|/health/ready)")
CHILD_SECONDS = 5.0
MOST_BYTES = 64 * 1024 * 1024
"""Of a child's answer."""


class FleetServer(StatusServer):
    """GET /metrics, /health/live, /health/ready, /status, /process, /targets, and /shards/<n>/... of each child."""

    paths = (
        "/metrics, /health/live, /health/ready, /status, /process, /targets, and of each shard that runs here "
        "/shards/<n>/metrics, /shards/<n>/status, /shards/<n>/health/live and /shards/<n>/health/ready"
    )

    def __init__(
        self,
        host: str,
        port: int,
        *,
        registry: CollectorRegistry,
        probe: Probe,
        process: Process,
        children: Callable[[], dict[int, str]],
        labels: Callable[[int], dict[str, str]],
        allowed_hosts: Collection[str] = (),
    ) -> None:
        """``children``: shard -> address of the child that runs here; ``labels``: of its target."""
        # What a child answers costs this process nothing but a thread, which waits for up to CHILD_SECONDS.
        super().__init__(
            host,
            port,
            registry=registry,
            probe=probe,
            process=process,
            allowed_hosts=allowed_hosts,
            limits=Limits(),
        )
        self._children = children
        self._labels = labels

    def _respond(self, request: Request) -> Response:
        child = _CHILD.fullmatch(request.path)
        if child is None and request.path != "/targets":
            return super()._respond(request)
        if request.method not in ("GET", "HEAD"):
            raise not_allowed(request, "GET, HEAD")
        if child is None:
            return json_response(HTTPStatus.OK, self._targets(request.header("Host")), {"Cache-Control": "no-store"})
        url = self._children().get(int(child[1]))
        if url is None:
            raise HttpError(HTTPStatus.NOT_FOUND, f"no child of shard {child[1]} runs here: see /status")
        return _forward(url, child[2], request.header("Accept"))

    def _targets(self, address: str) -> list[dict[str, object]]:
        """The children as Prometheus's HTTP service discovery has them: this address, a path for each."""
        return [
            {"targets": [address], "labels": {"__metrics_path__": f"/shards/{shard}/metrics", **self._labels(shard)}}
            for shard in sorted(self._children())
        ]


def _forward(url: str, path: str, accept: str) -> Response:
    place = urlsplit(url)
    connection = http.client.HTTPConnection(place.hostname or "127.0.0.1", place.port, timeout=CHILD_SECONDS)
    try:
        connection.request("GET", path, headers={"Accept": accept} if accept else {})
        answer = connection.getresponse()
        body = answer.read(MOST_BYTES)
        rest = answer.length  # of a body that was given a length, None without one
    except (OSError, http.client.HTTPException) as error:
        raise HttpError(HTTPStatus.BAD_GATEWAY, f"the child does not answer: {error}") from error
    finally:
        connection.close()
    if rest or len(body) == MOST_BYTES:
        raise HttpError(HTTPStatus.BAD_GATEWAY, f"the child's answer is incomplete, or longer than {MOST_BYTES} bytes")
    return Response(answer.status, body, answer.getheader("Content-Type", "text/plain"))
