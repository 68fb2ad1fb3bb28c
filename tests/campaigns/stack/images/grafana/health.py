"""Answers Grafana's health check on its port, once its secret and its provisioning can be read."""

import os
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

NEEDED = (os.environ["GF_SECURITY_ADMIN_PASSWORD__FILE"], "/etc/grafana/provisioning/datasources/prometheus.yaml")


class Health(BaseHTTPRequestHandler):
    """``GET /api/health``: 200 where what Grafana needs is there, otherwise 503."""

    def do_GET(self) -> None:
        """Answer."""
        well = all(Path(name).read_text() for name in NEEDED) and any(Path("/etc/k2-dashboards").glob("*.json"))
        self.send_response(200 if well else 503)
        self.end_headers()


if __name__ == "__main__":
    HTTPServer(("0.0.0.0", 3000), Health).serve_forever()  # noqa: S104 - in its container
