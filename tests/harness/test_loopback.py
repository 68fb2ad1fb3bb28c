"""Nothing on this machine is reached through the environment's proxy."""

import ast
import os
import subprocess
import sys

import pytest

from tests.harness.interpreters import ROOT
from tests.harness.loopback import answering

MAY = {
    "plugins/ingest_ops/airflow/notifier.py",  # to a service outside, which a proxy may lead to
    "plugins/ingest_ops/archive/exchange_client.py",  # to the exchange; directly if it is on this machine
}
DEAD = "http://127.0.0.1:1"
"""A proxy that does not answer."""
LIBRARIES = ("urllib", "httpx", "requests", "websockets", "aiohttp")
VERBS = frozenset({"get", "options", "head", "post", "put", "patch", "delete", "request", "stream"})


def obeying(source: str) -> list[int]:
    """Lines with a client of HTTP or WebSocket that obeys ``http_proxy`` and its relatives."""
    if not any(library in source for library in LIBRARIES):  # parsing a thousand files takes its time
        return []
    tree = ast.parse(source)
    hardened = {id(node) for call in calls(tree) if named(call) == "hardened" for node in ast.walk(call)}
    direct_session = any(
        isinstance(node, ast.Assign) and ast.unparse(node).endswith(".trust_env = False") for node in ast.walk(tree)
    )
    modules = {
        name.asname or name.name: f"{node.module}.{name.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    found = []
    for call in calls(tree):
        first, _, rest = ast.unparse(call.func).partition(".")
        module, _, name = f"{modules.get(first, first)}.{rest}".rstrip(".").rpartition(".")
        options = {one.arg: ast.unparse(one.value) for one in call.keywords}
        match module.partition(".")[0]:
            case "urllib" if module == "urllib.request":
                handlers = [ast.unparse(one) for one in call.args]
                bare = name == "build_opener" and not any(one.endswith("ProxyHandler({})") for one in handlers)
                obeys = name in ("urlopen", "urlretrieve") or bare
            case "httpx" | "httpx2" if name in VERBS | {"Client", "AsyncClient"}:
                obeys = options.get("trust_env") != "False" and "transport" not in options
            case "requests" if name in VERBS:
                obeys = True
            case "requests" if name == "Session":
                obeys = id(call) not in hardened and not direct_session
            case "websockets" if name == "connect":
                obeys = "proxy" not in options and None not in options
            case "aiohttp" if name == "ClientSession":
                obeys = options.get("trust_env", "False") != "False"
            case _:
                obeys = False
        if obeys:
            found.append(call.lineno)
    return found


def calls(tree: ast.AST) -> list[ast.Call]:
    return [node for node in ast.walk(tree) if isinstance(node, ast.Call)]


def named(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


@pytest.mark.parametrize(("source", "obeys"), [
    ("import urllib.request\nurllib.request.urlopen(url)", True),
    ("from urllib import request\nrequest.urlretrieve(url, path)", True),
    ("from urllib.request import urlopen\nurlopen(url)", True),
    ("from urllib.request import build_opener\nbuild_opener()", True),
    ("import urllib.request\nurllib.request.build_opener(urllib.request.ProxyHandler({}))", False),
    ("from tests.harness import loopback\nloopback.urlopen(url)", False),
    ("import httpx2\nhttpx2.get(url)", True),
    ("import httpx2\nhttpx2.Client(timeout=1)", True),
    ("import httpx2\nhttpx2.AsyncClient(trust_env=True)", True),
    ("from httpx import Client\nClient()", True),
    ("import httpx2\nhttpx2.Client(trust_env=False)", False),
    ("import httpx2\nhttpx2.Client(transport=httpx2.MockTransport(answer))", False),
    ("import requests\nrequests.post(url)", True),
    ("import requests\nrequests.Session()", True),
    ("from requests import Session\nSession()", True),
    ("import requests\nhardened(session or requests.Session())", False),
    ("import requests\nsession = requests.Session()\nsession.trust_env = False", False),
    ("from websockets.asyncio.client import connect\nconnect(url)", True),
    ("import websockets\nwebsockets.connect(url)", True),
    ("from websockets.sync.client import connect\nconnect(url, proxy=None)", False),
    ("import aiohttp\naiohttp.ClientSession(trust_env=True)", True),
    ("import aiohttp\naiohttp.ClientSession()", False),
])  # fmt: skip
def test_a_client_that_obeys_the_environment_is_found(source: str, obeys: bool) -> None:
    assert bool(obeying(source)) is obeys


def test_only_what_leads_outside_may_use_the_proxy_of_the_environment() -> None:
    texts = {
        str(path.relative_to(ROOT)): path.read_text("utf-8")
        for folder in ("ingest", "plugins", "dags", "deploy", "docs", "tests", "tools")
        for path in (ROOT / folder).rglob("*.py")
    }
    found = {name: lines for name, text in texts.items() if (lines := obeying(text))}
    assert {path: lines for path, lines in found.items() if path not in MAY} == {}
    assert MAY - found.keys() == set()


SCHEMA = b'{"schema": "\\"string\\""}'
"""What a registry answers."""


@pytest.mark.parametrize(
    "code",
    [
        "from tests.harness.processes import http_json; print(http_json(sys.argv[1])['schema'])",
        "from ingest.reader.schemas import Decoder; print(Decoder(sys.argv[1])._fetch(1))",
    ],
    ids=["harness", "reader"],
)
def test_loopback_answers_although_the_environment_names_a_proxy(code: str) -> None:
    names = dict.fromkeys(("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"), DEAD)
    bare = {name: value for name, value in os.environ.items() if name.lower() != "no_proxy"}
    with answering(SCHEMA) as url:
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; {code}", url],
            env=bare | names, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "string" in done.stdout
