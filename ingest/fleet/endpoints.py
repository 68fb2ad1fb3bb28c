"""The HTTP server of an instance: what every service answers, its children below ``/shards``, and their targets."""

import http.client
import re
from collections.abc import Callable, Collection
from http import HTTPStatus
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry

from ingest.control.server import Probe, StatusServer
from ingest.http.messages import HttpError, Request, Response, json_response

_CHILD = re.compile(r"/shards/([0-9]{1,4})(/metrics|/status|/health/live|/health/ready)")
CHILD_SECONDS = 5.0
MOST_BYTES = 64 * 1024 * 1024
"""Of a child's answer."""


class FleetServer(StatusServer):
    """GET /metrics, /health/live, /health/ready, /status, /targets and /shards/<n>/... of each child that runs here."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        registry: CollectorRegistry,
        probe: Probe,
        children: Callable[[], dict[int, str]],
        labels: Callable[[int], dict[str, str]],
        allowed_hosts: Collection[str] = (),
    ) -> None:
        """``children``: shard -> address of the child that runs here; ``labels``: of its target."""
        super().__init__(host, port, registry=registry, probe=probe, allowed_hosts=allowed_hosts)
        self._children = children
        self._labels = labels

    def _respond(self, request: Request) -> Response:
        child = _CHILD.fullmatch(request.path)
        if child is None and request.path != "/targets":
            return super()._respond(request)
        if request.method not in ("GET", "HEAD"):
            raise HttpError(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD are allowed", Allow="GET, HEAD")
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
    except (OSError, http.client.HTTPException) as error:
        raise HttpError(HTTPStatus.BAD_GATEWAY, f"the child does not answer: {error}") from error
    finally:
        connection.close()
    return Response(answer.status, body, answer.getheader("Content-Type", "text/plain"))
