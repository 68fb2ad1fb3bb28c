"""Entry K, and security.md sections 4 and 6: registries that refuse, that are read-only, and that answer nonsense."""

import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from tests.campaigns.field.environment import (
    Environment,
    audited,
    begin,
    ends_or_says,
    ingest,
    traceback_in,
)
from tests.campaigns.field.example import cases, example, require
from tests.harness.processes import ROOT
from tests.harness.registry import Refused, Registry

RULE = "every 422 is called an incompatible schema"
Refuse = Callable[[str, str], Refused | None]


class StrictRegistry(Registry):
    """Refuses or replaces some answers."""

    def __init__(self) -> None:
        super().__init__()
        self.refuse: Refuse = lambda method, path: None
        self.replace: Callable[[str, str, Any], Any] = lambda method, path, answer: answer

    def handle(self, method: str, path: str, body: Mapping[str, Any]) -> Any:
        refused = self.refuse(method, path)
        if refused is not None:
            raise refused
        return self.replace(method, path, super().handle(method, path, body))


def _registers(method: str, path: str) -> bool:
    return method == "POST" and path.endswith("/versions")


def _read_only(environment: Environment, status: int, code: int, text: str) -> str:
    with StrictRegistry() as strict, environment.stack("read-only", registry_url=strict.url) as stack:
        service = begin(stack)
        service.terminate()
        strict.refuse = lambda method, path: Refused(status, code, text) if _registers(method, path) else None
        service.start(wait=False)
        ended = service.wait(8)
        require(ended is None, f"the restart ends with {ended}: {service.tail(3)}")
        service.wait_ready()
        stack.wait(stack.writing, "the service as writer", seconds=60)
        code_, report = audited(stack)
        require(code_ == 0, f"{report['verdict']}: {report['reason']}")
        return f"restarts; audit {report['verdict']}"


cases(
    "K.1.", RULE, "a registry where nothing may be registered does not end a restart: the schema is there",
    (
        partial(_read_only, status=422, code=42205, text="Subject is in read-only mode"),
        partial(_read_only, status=403, code=40301, text="User is not authorized to write"),
        partial(_read_only, status=401, code=40101, text="Unauthorized"),
        partial(_read_only, status=405, code=405, text="Method not allowed"),
    ),
)  # fmt: skip


def _named_reason(environment: Environment, status: int, code: int, text: str) -> str:
    with StrictRegistry() as strict, environment.stack("reason", registry_url=strict.url) as stack:
        strict.refuse = lambda method, path: Refused(status, code, text) if _registers(method, path) else None
        service = stack.service(start=False)
        service.start(wait=False)
        ended = ends_or_says(service, text)
        log = service.log.read_text(errors="replace")
        require(not traceback_in(log), "a traceback")
        require(ended in (None, 3), f"exit {ended}")
        require(text in log, f"the log does not say {text!r}")
        require("does not fit" not in log.replace(text, ""), "the log calls it a schema that does not fit")
        return f"{'retries' if ended is None else 'exit 3'}, and names the reason"


cases(
    "K.2.", RULE, "the registry's own reason is in the log",
    (
        partial(_named_reason, status=422, code=42205, text="Subject is in read-only mode"),
        partial(_named_reason, status=422, code=42206, text="Subject quota is exhausted"),
    ),
)  # fmt: skip

DROPS = "a schema that drops what it does not know"
SCHEMA = json.loads((ROOT / "ingest" / "kafka" / "trade_v2.avsc").read_text())


def _changed(change: Callable[[dict[str, Any]], None]) -> str:
    schema = json.loads(json.dumps(SCHEMA))
    change(schema)
    return json.dumps(schema)


def _without(*names: str) -> str:
    return _changed(lambda s: s.update(fields=[f for f in s["fields"] if f["name"] not in names]))


def _field(name: str, **new: Any) -> str:
    def change(schema: dict[str, Any]) -> None:
        next(field for field in schema["fields"] if field["name"] == name).update(new)

    return _changed(change)


def _decimal(name: str, precision: int, scale: int) -> str:
    return _field(name, type={"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})


def _wrong_schema(environment: Environment, schema: str) -> str:
    with StrictRegistry() as strict, environment.stack("schema", registry_url=strict.url) as stack:
        strict.handle("POST", f"/subjects/{stack.topic}-value/versions", {"schema": schema})
        service = stack.service(start=False, K2_KAFKA_SCHEMA_AUTO_REGISTER="false")
        service.start(wait=False)
        ended = ends_or_says(service, "schema")
        log = service.log.read_text(errors="replace")
        require(not traceback_in(log), "a traceback")
        written = sum(stack.committed().values()) if ended is None and service.ready_file.exists() else 0
        if ended is None and service.ready_file.exists():
            service.wait_ready()
            written = len(stack.committed())
        require(not written, "records are written")
        require(ended in (None, 3), f"exit {ended}")
        require("schema" in log.lower() and stack.topic in log, "the log does not name schema and subject")
        return "exit 3, nothing written" if ended == 3 else "waits, nothing written"


cases(
    "S4.", DROPS, "nothing is written with a schema that loses a field or a digit: exit 3 (or not ready), naming it",
    [
        partial(_wrong_schema, schema=schema)
        for schema in (
            _without("price", "quantity"),
            _without("source_sequence"),
            _without("ingestion_timestamp"),
            _without("side"),
            _decimal("price", 12, 8),
            _decimal("quantity", 38, 4),
            _decimal("quantity", 20, 8),
            _field("source_sequence", type="int", default=0),
            _field("timestamp", type={"type": "long", "logicalType": "timestamp-millis"}),
            _field("timestamp", type="int"),
            _field("price", type="double"),
            _field("price", type="string"),
            _field("side", type={"type": "enum", "name": "TradeSide", "symbols": ["BUY", "UNKNOWN"]}),
            _field("vendor_data", type=["null", {"type": "map", "values": "int"}]),
        )
    ],
)  # fmt: skip

NONSENSE = "input that nobody expected is a traceback"


def _nonsense(environment: Environment, answer: Any) -> str:
    with StrictRegistry() as strict, environment.stack("nonsense", registry_url=strict.url) as stack:
        strict.replace = lambda method, path, good: answer
        service = stack.service(start=False)
        service.start(wait=False)
        taken = "schema 1 of subject"  # an id is all that a registration answers: some of this is plausible
        ended = ends_or_says(service, "registry", taken)
        log = service.log.read_text(errors="replace")
        require(not traceback_in(log), f"a traceback: {log[-300:]}")
        require(ended in (None, 3), f"exit {ended}")
        require("registry" in log.lower() or taken in log, "the log does not name the registry")
        done = ingest(
            "audit", "--bootstrap-servers", stack.bootstrap_servers, "--schema-registry-url", strict.url,
            "--topic", stack.topic, "--ledger", stack.simulator.admin_url, "--timeout", "5",
        )  # fmt: skip
        require(not traceback_in(done.stdout + done.stderr), "the audit ends with a traceback")
        require(done.returncode == 2, f"the audit exits {done.returncode}")
        if taken in log:
            return "takes the id that it was given; the audit exits 2"
        return "retries" if ended is None else "exit 3"


ANSWERS: tuple[Any, ...] = (
    [[[[]]]],
    {"id": -1, "schema": json.dumps(SCHEMA)},
    {"id": 2**32, "schema": json.dumps(SCHEMA), "version": 1},
    {"id": "7", "schema": "{{{"},
    {"id": 1, "schema": "{{{", "version": 1},
    {"id": 1.5, "schema": 5},
    {"id": True, "schema": json.dumps(SCHEMA)},
    None,
    "text",
    {"schema": json.dumps({"type": "record", "name": "x", "fields": []}), "id": 1, "version": 1},
)
cases(
    "S6.", NONSENSE, "nonsense from a registry is a clear line (exit 3 or retries), never a traceback",
    [partial(_nonsense, answer=answer) for answer in ANSWERS],
)  # fmt: skip


@example(
    "S7.2", "texts from outside reach terminals raw", "a registry's text is escaped in the log and on the terminal"
)
def hostile_text(environment: Environment) -> str:
    """The registry answers 401 with a text that forges a log line and holds an escape sequence."""
    forged = 'no\n{"level":"INFO","message":"forged by the registry"}\n\x1b[2J\x9b31m'
    with StrictRegistry() as strict, environment.stack("hostile", registry_url=strict.url) as stack:
        strict.refuse = lambda method, path: Refused(401, 40101, forged)
        service = stack.service(start=False)
        service.start(wait=False)
        ends_or_says(service, "401")
        log = service.log.read_bytes()
        require(b"\x1b" not in log and b"\xc2\x9b" not in log, "an escape sequence is in the log")
        for line in log.decode(errors="replace").splitlines():
            require(not line.startswith('{"level":"INFO","message":"forged'), "a log line is forged")
        require(b"401" in log, "the log does not name 401")
        return "escaped"
