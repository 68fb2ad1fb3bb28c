"""One request to a control API, the service's or the agent's: both answer with JSON and refuse with the same codes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import httpx2

from ingest.decoding import decode_json
from ingest.http.answers import MiB, ask
from ingest_ops.common.command_headers import command_headers

MOST_BYTES = 16 * MiB
"""Of an answer: the status of thousands of symbols has a tenth of it."""
REFUSALS = (400, 401, 404, 409)
"""Answers that stay the same when the request is repeated."""


class JsonClient:
    """Asks. A subclass names the two exceptions: one for a refusal, one for whatever may work another time."""

    REFUSAL: type[Exception]
    TROUBLE: type[Exception]

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client

    def _request(
        self,
        method: str,
        url: str,
        body: object | None,
        *,
        seconds: httpx2.Timeout | float,
        who: str,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Any:
        """Return the answer to a request, to a POST with the headers of a command. Raises ``REFUSAL``, ``TROUBLE``."""
        sent = {**headers, **(command_headers() if method == "POST" else {})}
        try:
            answer = ask(self._client, method, url, most_bytes=MOST_BYTES, json=body, headers=sent, timeout=seconds)
            data = decode_json(answer.content)
        except (httpx2.HTTPError, ValueError) as error:
            raise self.TROUBLE(f"{who} does not answer: {error!r}") from error
        if answer.status_code == 200:
            return data
        text = f"{who} answers {answer.status_code}: {data.get('error', '') if isinstance(data, dict) else ''}"
        raise self.REFUSAL(text) if answer.status_code in REFUSALS else self.TROUBLE(text)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
