"""Nothing on this machine is reached through the environment's proxy."""

import ast
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.harness.interpreters import ROOT

MAY = {
    "plugins/ingest_ops/airflow/notifier.py",  # to a service outside, which a proxy may lead to
}
DEAD = "http://127.0.0.1:1"
"""A proxy that does not answer."""


def openers(source: str) -> list[int]:
    """Lines that use urllib's own opener, which obeys ``http_proxy``."""
    names = ("urlopen", "urlretrieve")
    if not any(name in source for name in names):  # parsing a thousand files takes its time
        return []
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr in names
        and ast.unparse(node.value) in ("urllib.request", "request")
    ]


def test_only_what_leads_outside_may_use_the_proxy_of_the_environment() -> None:
    assert openers("import urllib.request\nurllib.request.urlopen(url)") == [2]
    found = {
        str(path.relative_to(ROOT))
        for folder in ("ingest", "plugins", "dags", "deploy", "docs", "tests", "tools")
        for path in (ROOT / folder).rglob("*.py")
        if openers(path.read_text("utf-8"))
    }
    assert found == MAY


class Registry(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"schema": "\\"string\\""}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep standard error clean."""


@pytest.mark.parametrize(
    "code",
    [
        "from tests.harness.processes import http_json; print(http_json(sys.argv[1])['schema'])",
        "from ingest.reader.schemas import Decoder; print(Decoder(sys.argv[1])._fetch(1))",
    ],
    ids=["harness", "reader"],
)
def test_loopback_answers_although_the_environment_names_a_proxy(code: str) -> None:
    server = HTTPServer(("127.0.0.1", 0), Registry)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"), DEAD)
    bare = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; {code}", f"http://127.0.0.1:{server.server_port}"],
            env=bare | names, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    assert done.returncode == 0, done.stderr
    assert "string" in done.stdout
