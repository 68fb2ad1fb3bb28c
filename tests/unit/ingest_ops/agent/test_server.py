import threading
import time
from collections.abc import Iterator

import httpx2
import pytest

from ingest.http.auth import FAILURES
from ingest.http.commands import ID_HEADER, PROCESS_HEADER, TIME_HEADER
from ingest.http.connection import MAX_BODY
from ingest.http.limits import Limits
from ingest_ops.agent.client import AgentClient
from ingest_ops.agent.server import BUILDS_KEPT, AgentServer, Builds
from ingest_ops.agent.slots import AgentRefusal, AgentTrouble, SlotStatus, check_slot
from ingest_ops.common.command_headers import command_headers
from tests.harness import loopback

TOKEN = "a-token-of-the-agent"  # noqa: S105


def command() -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKEN}", **command_headers()}


class FakeSlots:
    def __init__(self) -> None:
        self.running = {"blue": "v1"}
        self.trouble = False
        self.may_build = threading.Event()
        self.may_build.set()
        self.built: list[str] = []

    def build(self, version: str) -> str:
        self.may_build.wait(60)
        if version == "broken":
            raise AgentTrouble("no compiler")
        self.built.append(version)
        return f"image of {version}"

    def start(self, slot: str, version: str) -> SlotStatus:
        check_slot(slot)
        if self.running.get(slot, version) != version:
            raise AgentRefusal(f"slot {slot} runs version {self.running[slot]}: stop it first")
        self.running[slot] = version
        return self.status(slot)

    def stop(self, slot: str) -> SlotStatus:
        self.running.pop(check_slot(slot), None)
        return self.status(slot)

    def status(self, slot: str) -> SlotStatus:
        if self.trouble:
            raise AgentTrouble("Docker does not answer")
        return SlotStatus(slot=check_slot(slot), running=slot in self.running, version=self.running.get(slot, ""))

    def versions(self) -> list[str]:
        return ["v2", "v1"]

    def close(self) -> None:
        pass


@pytest.fixture
def slots() -> FakeSlots:
    return FakeSlots()


@pytest.fixture
def server(slots: FakeSlots) -> Iterator[AgentServer]:
    with AgentServer("127.0.0.1", 0, slots=slots, token=TOKEN) as running:
        yield running


@pytest.fixture
def client(server: AgentServer) -> Iterator[AgentClient]:
    with AgentClient(server.url, TOKEN) as made:
        yield made


def test_the_four_verbs(client: AgentClient, slots: FakeSlots) -> None:
    assert client.status("blue").version == "v1"
    assert client.start("green", "v2").running
    assert client.start("green", "v2").running
    assert not client.stop("green").running
    assert not client.stop("green").running
    with pytest.raises(AgentRefusal, match="stop it first"):
        client.start("blue", "v2")
    assert slots.running == {"blue": "v1"}


def _settled(client: AgentClient, version: str) -> dict[str, str]:
    while (found := client.build(version))["state"] == "running":
        pass
    return found


def test_a_build_goes_on_while_others_are_served_and_is_done_once(client: AgentClient, slots: FakeSlots) -> None:
    slots.may_build.clear()
    assert client.build("v2")["state"] == "running"
    assert client.build("v2")["state"] == "running"
    assert client.status("blue").running
    with pytest.raises(AgentRefusal, match="v2 is being built"):
        client.build("v3")
    slots.may_build.set()
    assert _settled(client, "v2") == {"state": "done", "detail": "image of v2"}
    assert client.build("v2")["state"] == "done"
    assert slots.built == ["v2"]


def test_outcomes_of_builds_are_bounded_in_number(slots: FakeSlots) -> None:
    builds = Builds(slots)
    for number in range(BUILDS_KEPT + 20):
        builds.begin(f"v{number}")
        while builds.state(f"v{number}")["state"] == "running":
            time.sleep(0.001)
    assert len(builds._states) == BUILDS_KEPT
    assert builds.state("v0")["state"] == "none"
    assert builds.state(f"v{BUILDS_KEPT + 19}")["state"] == "done"


def test_a_build_that_fails_says_why(client: AgentClient) -> None:
    assert _settled(client, "broken") == {"state": "failed", "detail": "no compiler"}


@pytest.mark.parametrize("slot", ["red", "..", "blue%2fgreen", "kafka"])
def test_there_are_two_slots_and_no_third(client: AgentClient, slot: str) -> None:
    with pytest.raises(AgentRefusal):
        client.status(slot)


@pytest.mark.parametrize("version", ["../x", "-v", "a b", "", "x" * 65, "v1\n", "ä"])
def test_a_version_is_a_plain_name(server: AgentServer, version: str) -> None:
    answer = loopback.post(f"{server.url}/slots/green/start", json={"version": version}, headers=command())
    assert answer.status_code == 409
    assert "no version" in answer.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"version": 1}', b'{"version": "v2", "privileged": true}'])
def test_a_start_takes_a_version_and_nothing_else(server: AgentServer, body: bytes, slots: FakeSlots) -> None:
    assert loopback.post(f"{server.url}/slots/green/start", content=body, headers=command()).status_code == 400
    assert "green" not in slots.running


def test_a_great_body_is_refused(server: AgentServer) -> None:
    body = b"x" * (MAX_BODY + 1)
    assert loopback.post(f"{server.url}/slots/green/start", content=body, headers=command()).status_code == 413


@pytest.mark.parametrize("authorization", [None, "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer"])
@pytest.mark.parametrize("verb", ["/slots/blue/stop", "/slots/green/start", "/builds/v2"])
def test_without_the_token_nothing_is_done(
    server: AgentServer, slots: FakeSlots, authorization: str | None, verb: str
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    assert loopback.post(server.url + verb, json={"version": "v2"}, headers=headers).status_code == 401
    assert slots.running == {"blue": "v1"}
    assert slots.built == []


def test_guessing_is_slowed_down_and_does_not_lock_the_deployer_out(server: AgentServer) -> None:
    for _ in range(FAILURES):
        assert loopback.get(f"{server.url}/slots", headers={"Authorization": "Bearer guess"}).status_code == 401
    assert loopback.get(f"{server.url}/slots", headers={"Authorization": "Bearer guess"}).status_code == 429
    assert loopback.get(f"{server.url}/slots", headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 200


def test_an_order_is_carried_out_once(server: AgentServer, slots: FakeSlots) -> None:
    order = command()
    stop = f"{server.url}/slots/blue/stop"
    assert loopback.post(stop, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 400, "no id and no time"
    assert loopback.post(stop, headers=order).status_code == 200
    slots.running["blue"] = "v2"
    assert loopback.post(stop, headers=order).status_code == 409, "the same order, sent again"
    assert slots.running == {"blue": "v2"}


class Recorded(httpx2.HTTPTransport):
    def __init__(self) -> None:
        super().__init__()
        self.posts: list[httpx2.Request] = []

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        if request.method == "POST":
            self.posts.append(request)
        return super().handle_request(request)


def test_a_command_of_the_client_is_for_the_agent_that_runs_and_no_later_one(
    server: AgentServer, slots: FakeSlots
) -> None:
    with AgentClient(server.url, TOKEN, transport=(transport := Recorded())) as client:
        client.stop("blue")
    (caught,) = transport.posts
    assert caught.headers["X-Command-Process"]
    slots.running["blue"] = "v2"
    with AgentServer("127.0.0.1", 0, slots=slots, token=TOKEN) as later:
        headers = {name: caught.headers[name] for name in ("Authorization", ID_HEADER, TIME_HEADER, PROCESS_HEADER)}
        answer = loopback.post(f"{later.url}/slots/blue/stop", headers=headers)
    assert (answer.status_code, slots.running) == (409, {"blue": "v2"})
    assert "another process" in answer.json()["error"]


def test_an_agent_of_an_older_version_is_commanded_without_its_name() -> None:
    def older(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/process":
            return httpx2.Response(404, json={"error": "there is no such thing"})
        assert PROCESS_HEADER not in request.headers
        return httpx2.Response(200, json={"slot": "blue", "running": False})

    with AgentClient("http://agent", TOKEN, transport=httpx2.MockTransport(older)) as client:
        assert not client.stop("blue").running


@pytest.mark.parametrize("body", [b"\xff\xfe", b'{"version": "\xff"}', b'{"version": ' + b"[" * 50_000])
def test_a_malformed_body_is_a_bad_request(server: AgentServer, body: bytes) -> None:
    assert loopback.post(f"{server.url}/slots/green/start", content=body, headers=command()).status_code == 400


def test_a_short_token_is_refused(slots: FakeSlots) -> None:
    with pytest.raises(ValueError, match="at least 16"):
        AgentServer("127.0.0.1", 0, slots=slots, token="short")  # noqa: S106


def test_the_metrics_need_no_token_and_leave_out_what_is_not_known(server: AgentServer, slots: FakeSlots) -> None:
    text = loopback.get(f"{server.url}/metrics").text
    assert 'ingest_container_running{slot="blue"} 1' in text
    assert 'ingest_container_running{slot="green"} 0' in text
    slots.trouble = True
    assert "slot=" not in loopback.get(f"{server.url}/metrics").text


def test_trouble_may_be_tried_again(client: AgentClient, slots: FakeSlots) -> None:
    slots.trouble = True
    with pytest.raises(AgentTrouble, match="Docker does not answer"):
        client.status("blue")


def test_nobody_there_is_trouble() -> None:
    with AgentClient("http://127.0.0.1:9", TOKEN) as client, pytest.raises(AgentTrouble):
        client.status("blue")


def test_a_request_to_the_deployment_is_kept_with_its_author(slots: FakeSlots) -> None:
    with AgentServer("127.0.0.1", 0, slots=slots, token=TOKEN) as server:
        with AgentClient(server.url, TOKEN) as client:
            assert client.request() is None
            client.ask("hold", "ada")
            first = client.request()
            assert first is not None
            assert (first.word, first.by) == ("hold", "ada")
            client.ask("resume", "ada")
            second = client.request()
            assert second is not None
            assert second.id != first.id
            with pytest.raises(AgentRefusal, match="404"):
                client.ask("pause", "ada")
            with pytest.raises(AgentRefusal, match="400"):
                client.ask("stop", "")
        with (
            AgentClient(server.url, "another-token-altogether") as stranger,
            pytest.raises(AgentRefusal, match="401"),
        ):
            stranger.ask("stop", "eve")


def test_health_does_not_wait_behind_requests_for_metrics(server: AgentServer, slots: FakeSlots) -> None:
    """Else a stranger's 40 requests make a supervisor restart the agent."""
    release, begun = threading.Event(), threading.Semaphore(0)
    status = slots.status

    def slow(slot: str) -> SlotStatus:
        begun.release()
        release.wait(30)
        return status(slot)

    slots.status = slow  # type: ignore[method-assign]
    strangers = [threading.Thread(target=loopback.get, args=(f"{server.url}/metrics",), daemon=True) for _ in range(8)]
    for one in strangers:
        one.start()
    try:
        for _ in range(Limits().running):
            assert begun.acquire(timeout=30)
        assert loopback.get(f"{server.url}/health", timeout=5).status_code == 200
    finally:
        release.set()
        for one in strangers:
            one.join(30)
