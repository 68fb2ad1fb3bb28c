"""A small schema registry with the interface of Confluent's: it checks, it refuses, and it can be taken away.

For tests that need many of them, quickly, or one that misbehaves. The real one: ``tests.harness.apicurio``.
"""

import argparse
import json
import signal
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import fastavro


class Refused(Exception):
    """An answer that is no 200."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def backward_compatible(new: Any, old: Any) -> bool:
    """Whether a reader with ``new`` understands what was written with ``old`` (Avro's resolution, for our types)."""
    if isinstance(new, list) or isinstance(old, list):
        writers = old if isinstance(old, list) else [old]
        readers = new if isinstance(new, list) else [new]
        return all(any(backward_compatible(reader, writer) for reader in readers) for writer in writers)
    if isinstance(new, str) or isinstance(old, str):
        plain = [t["type"] if isinstance(t, dict) and isinstance(t.get("type"), str) else t for t in (new, old)]
        wider = {"int": {"long", "float", "double"}, "long": {"float", "double"}, "float": {"double"}}
        return bool(plain[0] == plain[1] or plain[0] in wider.get(str(plain[1]), set()))
    if new["type"] != old["type"] or new.get("logicalType") != old.get("logicalType"):
        return False
    if (new.get("precision"), new.get("scale")) != (old.get("precision"), old.get("scale")):
        return False
    match new["type"]:
        case "record":
            written = {field["name"]: field["type"] for field in old["fields"]}
            return new["name"] == old["name"] and all(
                backward_compatible(field["type"], written[field["name"]])
                if field["name"] in written
                else "default" in field
                for field in new["fields"]
            )
        case "enum":
            return set(old["symbols"]) <= set(new["symbols"])
        case "array":
            return backward_compatible(new["items"], old["items"])
        case "map":
            return backward_compatible(new["values"], old["values"])
        case _:
            return True


class Registry:
    """The registry's state and its answers, on a port of its own while the context is open."""

    def __init__(self, *, user: str | None = None, password: str | None = None, port: int = 0) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._schemas: list[str] = []
        self._subjects: dict[str, list[int]] = {}
        self.failing: int | None = None
        """Answer every request with this status."""
        self.requests: list[str] = []
        self._credentials = (user, password)
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Its address."""
        assert self._server is not None
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def handle(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        """Answer one request; raises ``Refused``."""
        with self._lock:
            self.requests.append(f"{method} {path}")
            match method, [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]:
                case "GET", ["subjects"]:
                    return sorted(self._subjects)
                case "GET", ["schemas", "ids", number]:
                    return {"schema": self._by_id(int(number)), "schemaType": "AVRO"}
                case "POST", ["subjects", subject]:
                    return self._lookup(subject, self._parsed(body))
                case "POST", ["subjects", subject, "versions"]:
                    return {"id": self._register(subject, self._parsed(body))}
                case "GET", ["subjects", subject, "versions", version]:
                    return self._version(subject, version)
                case "POST", ["compatibility", "subjects", subject, "versions", "latest"]:
                    latest = self._version(subject, "latest")["schema"]
                    return {"is_compatible": backward_compatible(json.loads(self._parsed(body)), json.loads(latest))}
                case _:
                    raise Refused(404, 404, f"HTTP 404 Not Found: {path}")

    @staticmethod
    def _parsed(body: Mapping[str, Any]) -> str:
        text = body.get("schema")
        try:
            fastavro.parse_schema(json.loads(text or ""))
        except (ValueError, fastavro.schema.SchemaParseException, fastavro.schema.UnknownType) as error:
            raise Refused(422, 42201, f"Invalid schema: {error}") from error
        return str(text)

    def _by_id(self, number: int) -> str:
        if not 1 <= number <= len(self._schemas):
            raise Refused(404, 40403, "Schema not found")
        return self._schemas[number - 1]

    def _version(self, subject: str, version: str) -> dict[str, Any]:
        ids = self._subjects.get(subject)
        if ids is None:
            raise Refused(404, 40401, f"Subject '{subject}' not found.")
        number = len(ids) if version == "latest" else int(version)
        return {
            "subject": subject, "version": number, "id": ids[number - 1], "schemaType": "AVRO",
            "schema": self._schemas[ids[number - 1] - 1],
        }  # fmt: skip

    def _lookup(self, subject: str, text: str) -> dict[str, Any]:
        self._version(subject, "latest")
        canonical = json.dumps(json.loads(text))
        for number, schema_id in enumerate(self._subjects[subject], 1):
            if self._schemas[schema_id - 1] == canonical:
                return self._version(subject, str(number))
        raise Refused(404, 40403, "Schema not found")

    def _register(self, subject: str, text: str) -> int:
        canonical = json.dumps(json.loads(text))
        ids = self._subjects.get(subject, [])
        for number in ids:
            if self._schemas[number - 1] == canonical:
                return number
        if ids and not backward_compatible(json.loads(text), json.loads(self._schemas[ids[-1] - 1])):
            raise Refused(409, 409, f"Schema being registered is incompatible with an earlier schema of {subject}")
        if canonical not in self._schemas:
            self._schemas.append(canonical)
        number = self._schemas.index(canonical) + 1
        self._subjects.setdefault(subject, []).append(number)
        return number

    def __enter__(self) -> Self:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                raw = self.rfile.read(length)
                status, answer = registry.answer(self.command, self.path, raw, self.headers.get("Authorization"))
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = _serve  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), name="registry", daemon=True).start()
        return self

    def answer(self, method: str, path: str, raw: bytes, authorization: str | None) -> tuple[int, Any]:
        """Status and body for one request."""
        import base64

        user, password = self._credentials
        if user is not None:
            expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
            if authorization != expected:
                return 401, {"error_code": 401, "message": "Unauthorized"}
        if self.failing is not None:
            return self.failing, {"error_code": self.failing * 100 + 1, "message": "told to fail"}
        try:
            return 200, self.handle(method, path, json.loads(raw) if raw else {})
        except Refused as refused:
            return refused.status, {"error_code": refused.code, "message": refused.message}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


def main() -> int:
    """Run one in the foreground until interrupted (``make registry``)."""
    parser = argparse.ArgumentParser(prog="python -m tests.harness.registry", description=main.__doc__)
    parser.add_argument("--port", type=int, default=8081, help="default: %(default)s")
    port = parser.parse_args().port
    stop = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    try:
        with Registry(port=port) as registry:
            sys.stdout.write(f"{registry.url}\n")
            sys.stdout.flush()
            signal.sigwait(stop)
    except OSError as error:
        sys.stderr.write(f"port {port}: {error.strerror}: stop what has it, or choose another with --port\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
