"""Files of secrets: read up to a bound, only if they are files, and named in errors without a secret."""

import os
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from ingest.core.errors import BadSettings
from ingest_ops.common.report_settings import ReportSettings
from ingest_ops.common.secret import MOST_BYTES, authorization, content, secret, token
from ingest_ops.deployment.settings import load
from ingest_ops.soak.sources import PrometheusSource, SourceError, client_for
from tests.unit.ingest_ops.common.test_files import pipe, within

NAME = "K2_AGENT_TOKEN"


def test_a_secret_is_the_variable_s_or_the_file_s(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a secret \n\r\n")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert secret({NAME: "a"}, NAME) == "a"
    assert secret({f"{NAME}_FILE": str(tmp_path / "link")}, NAME) == "a secret "
    assert secret({}, NAME) == ""
    with pytest.raises(ValueError, match=f"{NAME} and {NAME}_FILE are both set"):
        secret({NAME: "a", f"{NAME}_FILE": "b"}, NAME)


@pytest.fixture(params=["none", "folder", "pipe", "device", "too big", "no text"])
def bad(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    """A file that cannot be read, and why."""
    path = tmp_path / "file"
    match request.param:
        case "none":
            return path, "No such file or directory"
        case "folder":
            return tmp_path, "Is a directory"
        case "pipe":
            return pipe(path), "is no file"
        case "device":
            return Path("/dev/zero"), "is no file"
        case "too big":
            with path.open("wb") as file:
                file.truncate(MOST_BYTES + 1)
            return path, f"has {MOST_BYTES + 1} bytes, more than {MOST_BYTES}"
        case _:
            path.write_bytes(b"\xff\xfe")
            return path, "it is no text"


def test_what_cannot_be_read_is_named_with_its_setting_at_once(bad: tuple[Path, str]) -> None:
    path, why = bad
    with pytest.raises(ValueError, match=rf"^{NAME}_FILE='{path}': cannot be read \({why}\)$"):
        within(30, lambda: secret({f"{NAME}_FILE": str(path)}, NAME))


@pytest.mark.parametrize("reading", [token, content, authorization])
def test_nothing_waits_for_a_pipe(tmp_path: Path, reading: Callable[[Path], str]) -> None:
    with pytest.raises(OSError, match="is no file"):
        within(30, lambda: reading(pipe(tmp_path / "pipe")))


def test_a_file_at_the_bound_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a" * MOST_BYTES)
    assert len(content(tmp_path / "file")) == MOST_BYTES


SECRET = "https://u:CANARY@host/token"  # noqa: S105 - made up


def test_an_address_in_place_of_a_file_s_name_is_masked() -> None:
    with pytest.raises(BadSettings) as caught:
        load({"K2_DEPLOY_PROMETHEUS_TOKEN_FILE": SECRET, f"{NAME}_FILE": SECRET})
    shown = "\n".join(caught.value.problems)
    assert "K2_DEPLOY_PROMETHEUS_TOKEN_FILE='https://********@host/token': cannot be used: No such file" in shown
    assert f"{NAME}_FILE='https://********@host/token': cannot be read (No such file or directory)" in shown
    assert "CANARY" not in shown
    with pytest.raises(OSError, match=r"the token file '\*+@host/token' cannot be used: No such file") as used:
        authorization(Path(SECRET))
    assert "CANARY" not in str(used.value)


def test_a_soak_reads_its_token_for_each_request(tmp_path: Path) -> None:
    """A soak of a day outlives the tokens that a cluster mounts."""
    path, tokens = tmp_path / "token", list[str]()

    def answer(request: httpx2.Request) -> httpx2.Response:
        tokens.append(request.headers["Authorization"])
        return httpx2.Response(200, json={"status": "success", "data": {"result": []}})

    with client_for(ReportSettings(prometheus_token_file=path)) as client:
        client._transport = httpx2.MockTransport(answer)
        source = PrometheusSource("http://prometheus", 'job="x"', client=client)
        for text in ("first\n", "second"):
            path.write_text(text)
            source.read(0.0, 60.0)
        path.unlink()
        with pytest.raises(SourceError, match=f"the token file '{path}' cannot be used: No such file"):
            source.read(0.0, 60.0)
        os.mkfifo(path)
        with pytest.raises(SourceError, match="is no file"):
            within(30, lambda: source.read(0.0, 60.0))
    assert tokens == ["Bearer first", "Bearer second"]
