import pytest

from ingest.binance.transport import opener
from ingest.metrics import Metrics
from ingest.settings import BinanceSettings
from tests.unit.ingest.binance.feeding import FAST
from tests.unit.ingest.binance.peers import Opening, Run


@pytest.fixture(params=["websockets", "picows"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test with each WebSocket client."""
    monkeypatch.setitem(FAST, "transport", request.param)


@pytest.fixture(params=["websockets", "picows"])
def opened(request: pytest.FixtureRequest) -> Opening:
    async def open_socket(url: str, **changes: object) -> Run:
        settings = BinanceSettings(transport=request.param, **{"open_timeout_seconds": 5.0, **changes})  # type: ignore[arg-type]
        metrics = Metrics(process=False)
        return Run(await opener(settings, metrics, None).open(url), metrics)

    return open_socket
