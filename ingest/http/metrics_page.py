"""A server of metrics and nothing else: for the programs beside the service."""

from collections.abc import Collection
from http import HTTPStatus

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from ingest.core.errors import Stop
from ingest.http.host import check_host
from ingest.http.messages import HttpError, Request, Response, not_allowed
from ingest.http.server import HttpServer

__all__ = ["Stop", "metrics_server"]


def metrics_server(
    name: str, host: str, port: int, registry: CollectorRegistry, *, allowed_hosts: Collection[str] = ()
) -> HttpServer:
    """Serve ``/metrics`` (and ``/``) while the ``with`` block runs, bounded as every port is.

    ``allowed_hosts``: see ``check_host``. Raises ``Stop`` on entering, where the address cannot be had.
    """

    def respond(request: Request) -> Response:
        if request.path not in ("/", "/metrics"):
            raise HttpError(HTTPStatus.NOT_FOUND, "there is /metrics")
        if request.method not in ("GET", "HEAD"):
            raise not_allowed(request, "GET, HEAD")
        return Response(HTTPStatus.OK, generate_latest(registry), CONTENT_TYPE_LATEST)

    return HttpServer(name, host, port, respond, check=lambda request: check_host(request, allowed_hosts))
