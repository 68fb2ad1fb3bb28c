"""A small HTTP/1.1 server that answers as told: for answers that a well-behaved exchange would never give."""

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec


class Request(msgspec.Struct):
    path: str
    query: dict[str, str]
    headers: dict[str, str]


class Answer(msgspec.Struct):
    body: bytes = b"{}"
    status: int = 200
    headers: dict[str, str] = {}
    delay: float = 0.0
    hang_up: bool = False
    truncate: int | None = None


class ScriptedHttp:
    """``answer`` decides per request; every request is kept in ``requests``."""

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.url = ""

    def paths(self) -> list[str]:
        return [request.path.rpartition("/")[2] for request in self.requests]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await self._head(reader):
                self.requests.append(head)
                answer = self.answer(head)
                await asyncio.sleep(answer.delay)
                if answer.hang_up:
                    break
                lines = [f"HTTP/1.1 {answer.status} X"]
                headers = {"Content-Length": str(len(answer.body)), "Content-Type": "application/json"} | answer.headers
                lines += [f"{name}: {value}" for name, value in headers.items()]
                writer.write("\r\n".join([*lines, "", ""]).encode() + answer.body[: answer.truncate])
                await writer.drain()
                if answer.truncate is not None:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _head(self, reader: asyncio.StreamReader) -> Request | None:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        url = urlsplit(lines[0].split(" ")[1])
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        return Request(url.path, {k: v[0] for k, v in parse_qs(url.query).items()}, headers)


@asynccontextmanager
async def scripted_http(answer: Callable[[Request], Answer], **listen: Any) -> Any:
    server = ScriptedHttp(answer)
    listener = await asyncio.start_server(server.handle, "127.0.0.1", 0, **listen)
    scheme = "https" if "ssl" in listen else "http"
    server.url = f"{scheme}://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listener.close()
        await asyncio.sleep(0)


def page(first: int, count: int, time_us: int = 1_723_161_254_122_000) -> bytes:
    """A page of historicalTrades as the exchange writes it."""
    return msgspec.json.encode(
        [
            {
                "id": first + n, "price": "61234.56000000", "qty": "0.01000000", "quoteQty": "612.34560000",
                "time": time_us + n, "isBuyerMaker": n % 2 == 0, "isBestMatch": True,
            }
            for n in range(count)
        ]
    )  # fmt: skip
