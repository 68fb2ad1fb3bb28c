"""A simulated exchange over restarts: after a kill at any byte it is what it was when it last wrote."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingest.simulator.ledger import Ledger
from ingest.simulator.state_folder import LINE, StateError, StateFolder
from tests.unit.ingest.simulator.state_folders import ALL, IDENTITY, NAMES, name

FIRST = 1000
LISTED = [("list", symbol, FIRST) for symbol in NAMES]
ids = st.integers(FIRST - 100, FIRST + 100)
operation = st.one_of(
    st.tuples(
        st.just("append"), name, st.integers(1, 2), st.integers(1, 9), st.integers(0, 1), st.booleans(),
        st.integers(1, 8),
    ),
    st.tuples(st.just("seal"), name),
    st.tuples(st.just("void"), name, st.integers(1, 5)),
    st.tuples(st.just("restart"), name, ids),
    st.tuples(st.just("relist"), name, ids),
    st.tuples(st.just("delist"), name),
    st.tuples(st.just("list"), st.sampled_from(("NEWUSDT", "NEWBTC")), ids),
    st.tuples(st.just("status"), name, st.sampled_from(("BREAK", "TRADING"))),
    st.tuples(st.just("misspell"), name, ids),
    st.tuples(st.just("trim"), name, st.integers(0, 20)),
    st.tuples(st.just("flush")),
    st.tuples(st.just("again")),
)  # fmt: skip
Operation = tuple[Any, ...]


class Played:
    """A ledger, and its clock."""

    def __init__(self, operations: Sequence[Operation] = ()) -> None:
        self.ledger = Ledger()
        self.now = 1
        for one in operations:
            self.do(one)

    def do(self, one: Operation) -> None:
        """Do an operation, or be refused."""
        kind, *arguments = one
        if kind == "append":
            self.now += arguments[3]
        with suppress(ValueError, KeyError):
            self._do(kind, *arguments)

    def _do(self, kind: str, symbol: str = "", *arguments: Any) -> None:
        ledger = self.ledger
        match kind:
            case "append":
                price, quantity, _, maker, repeat = arguments
                for _ in range(repeat):
                    ledger.symbols[symbol].append(price, quantity, self.now, maker)
            case "seal":
                ledger.symbols[symbol].seal()
            case "void":
                ledger.symbols[symbol].void(*arguments)
            case "restart":
                ledger.symbols[symbol].restart_at(*arguments)
            case "relist":
                ledger.relist(symbol, *arguments)
            case "delist":
                ledger.delist(symbol)
            case "list":
                ledger.add(symbol, symbol[:3], symbol[3:], *arguments, status="BREAK", step_size="0.00000001")
            case "status":
                ledger.all_symbols[symbol].change_status(*arguments)
            case "misspell":
                ledger.all_symbols[symbol].misspell(arguments[0], "NaN", "-1")
            case _:
                pass  # nothing that happens on the exchange


class Kept:
    """A ledger in a folder, and what was known of it whenever something was written."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self.played = Played()
        self.folder = folder
        self.most_bytes = most_bytes
        self.state = opened(folder, self.played.ledger, most_bytes)
        self.begun: dict[int, dict[int, int]] = {}
        """Number of a file -> number of each listing -> its trades when the file began."""
        self.written: dict[tuple[int, int], int] = {}
        """Number and size of the newest file -> how many operations were done."""
        self.note(0)

    def do(self, one: Operation) -> None:
        """Do an operation; some concern the process and not the exchange."""
        self.played.do(one)
        match one:
            case ("trim", symbol, keep) if symbol in self.played.ledger.symbols:
                self.played.ledger.symbols[symbol].trim(keep)
            case ("flush",):
                self.state.journal.flush()
            case ("again",):
                self.state.close()
                self.played.ledger = Ledger()
                self.state = opened(self.folder, self.played.ledger, self.most_bytes)
            case _:
                pass

    def note(self, done: int) -> None:
        """What is on disk now is everything that was done, if anything has been written."""
        number, size = self.state._number, self.state._size
        self.written.setdefault((number, size), done)
        self.begun.setdefault(number, {one.number: one.sent_trades for one in self.played.ledger.all_symbols.values()})

    def kill(self, share: float) -> tuple[int, dict[int, int]]:
        """Cut the newest file anywhere behind its beginning: the operations that it has, and the forgotten trades."""
        number, size = self.state._number, self.state._size
        self.state._failed = "killed"  # what is not written is lost
        self.state.close()
        sizes = {at: done for (file, at), done in self.written.items() if file == number}
        cut = min(sizes) + round((size - min(sizes)) * share)
        os.truncate(self.folder / f"ledger.{number}.journal", cut)
        return sizes[max(at for at in sizes if at <= cut)], self.begun[max(1, number - 1)]


def opened(folder: Path, ledger: Ledger, most_bytes: int = 2**20) -> StateFolder:
    return StateFolder(folder, ledger, IDENTITY, most_bytes=most_bytes)


def plain(ledger: Ledger) -> Any:
    return json.loads(json.dumps(ledger.state()))


def assert_same(found: Ledger, model: Ledger, forgotten: dict[int, int]) -> None:
    """The same exchange, but for the trades that are forgotten: how many of each listing."""
    assert plain(found) == plain(model)
    for symbol, expected in model.all_symbols.items():
        one = found.all_symbols[symbol]
        within = range(forgotten.get(expected.number, 0), expected.sent_trades)
        assert one.held == within
        assert one.rows(0, ALL) == expected.rows(0, ALL, within=within)
        assert one.newest(ALL) == expected.newest(ALL, within=within)
        assert one.aggregates(ALL) == expected.aggregates(ALL, within=within)


SAME = ("append", "BTCUSDT", 1, 1, 0, True, 1)
"""Again and again: one aggregate."""


@settings(deadline=None, max_examples=200)
@example([SAME, ("seal", "BTCUSDT"), SAME, ("flush",)], [SAME], 2000, 1.0)
@example([SAME, ("flush",)] * 40, [SAME], 300, 1.0)
@example([SAME, ("restart", "BTCUSDT", FIRST - 3), *[SAME, ("flush",)] * 9], [SAME] * 9, 60, 1.0)
@given(st.lists(operation, max_size=60), st.lists(operation, max_size=10), st.integers(60, 3000), st.floats(0, 1))
def test_after_a_kill_at_any_byte_it_is_what_was_written(
    operations: list[Operation], later: list[Operation], most_bytes: int, share: float
) -> None:
    operations = [*LISTED, *operations]
    with TemporaryDirectory() as name:
        folder = Path(name, "state")
        kept = Kept(folder, most_bytes)
        for done, one in enumerate(operations, 1):
            kept.do(one)
            kept.note(done)
        done, forgotten = kept.kill(share)
        model, after = Played(operations[:done]), Played()
        state = opened(folder, after.ledger, most_bytes)
        assert_same(after.ledger, model.ledger, forgotten)
        after.now = model.now
        for one in later:
            model.do(one)
            after.do(one)
        assert_same(after.ledger, model.ledger, forgotten)
        state.close()
        third = Ledger()
        opened(folder, third).close()
        assert plain(third) == plain(model.ledger), "a torn end is cut off before more is written"
        assert len(list(folder.glob("ledger.*"))) <= 2


def some(folder: Path, *, trades: int = 40, most_bytes: int = 2**20) -> Played:
    """A folder with one symbol and its trades."""
    made = Played()
    state = opened(folder, made.ledger, most_bytes)
    for one in LISTED:
        made.do(one)
    for number in range(trades):
        made.do(("append", "BTCUSDT", 1 + number % 3, 1 + number, 1, number % 2 == 0, 1))
        state.journal.flush()
    state.close()
    return made


def newest(folder: Path) -> Path:
    return max(folder.glob("ledger.*.journal"), key=lambda path: int(path.name.split(".")[1]))


def test_no_changed_byte_goes_unseen(tmp_path: Path) -> None:
    some(tmp_path, trades=3)
    path = newest(tmp_path)
    data = path.read_bytes()
    for at in range(len(data)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :])
        with pytest.raises(StateError) as refused:
            opened(tmp_path, Ledger())
        text = str(refused.value)
        assert str(path) in text
        assert f"remove the folder {tmp_path}" in text
    path.write_bytes(data)
    opened(tmp_path, Ledger()).close()


def test_two_files_are_kept_and_what_is_older_is_forgotten(tmp_path: Path) -> None:
    made = some(tmp_path, trades=500, most_bytes=1000)
    files = list(tmp_path.glob("ledger.*"))
    assert len(files) == 2
    assert sum(path.stat().st_size for path in files) < 2 * (1000 + 100) + 2 * 1500, "two bounds and two beginnings"
    after = Ledger()
    opened(tmp_path, after).close()
    one = after.symbols["BTCUSDT"]
    assert (one.forgotten, one.next_id) == (True, FIRST + 500)
    assert 20 < len(one.held) < 60
    assert one.newest(ALL) == made.ledger.symbols["BTCUSDT"].newest(len(one.held))


def test_a_kill_between_the_steps_of_a_rotation_costs_nothing(tmp_path: Path) -> None:
    made = Played()
    state = opened(tmp_path, made.ledger, 1000)
    for one in LISTED:
        made.do(one)
    three: list[Path] = []
    while len(three) < 3:  # each file as it was before it was removed
        made.do(("append", "BTCUSDT", 1, 1, 1, True, 1))
        for path in tmp_path.glob("ledger.*.journal"):
            shutil.copy(path, tmp_path / f"copy-{path.name}")
        state.journal.flush()
        three = sorted(tmp_path.glob("copy-*"))
    state.close()
    for path in three:
        there = tmp_path / path.name.removeprefix("copy-")
        if not there.exists():
            path.rename(there)  # the oldest is not removed yet
    (tmp_path / "ledger.part").write_bytes(LINE + b"half a")
    after = Ledger()
    opened(tmp_path, after).close()
    assert plain(after) == plain(made.ledger)
    assert len(list(tmp_path.glob("ledger.*"))) == 2


def test_a_kill_in_the_first_write_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "ledger.part").write_bytes(LINE + bytes(10_000))
    some(tmp_path)
    after = Ledger()
    opened(tmp_path, after).close()
    assert after.symbols["BTCUSDT"].sent_trades == 40


def test_what_happens_to_a_listing_that_was_replaced_is_not_kept(tmp_path: Path) -> None:
    ledger = Ledger()
    state = opened(tmp_path, ledger, 1)
    old = ledger.add("BTCUSDT", "BTC", "USDT", FIRST)
    old.append(1, 1, 1, True)
    ledger.relist("BTCUSDT", 1)
    old.seal()
    old.append(1, 1, 1, True)
    state.close()
    after = Ledger()
    opened(tmp_path, after).close()
    assert plain(after) == plain(ledger)


def test_a_file_whose_predecessor_has_lost_its_end_is_refused(tmp_path: Path) -> None:
    some(tmp_path, trades=100, most_bytes=1000)
    older = min(tmp_path.glob("ledger.*.journal"), key=lambda path: int(path.name.split(".")[1]))
    data = older.read_bytes()
    older.write_bytes(data[:-1])
    with pytest.raises(StateError, match="its end is missing"):
        opened(tmp_path, Ledger())
    older.write_bytes(data[: -(12 + 29)])  # its last trade
    with pytest.raises(StateError, match="it does not follow the file before it"):
        opened(tmp_path, Ledger())


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda path: path.write_bytes(b""), "it is no journal"),
        (lambda path: path.write_bytes(LINE), "it has no beginning"),
        (lambda path: path.write_bytes(LINE.replace(b" 1\n", b" 2\n")), "its format is another version's"),
        (lambda path: (path.unlink(), path.mkdir()), "name a folder that can be read and written"),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, spoil: Callable[[Path], object], text: str) -> None:
    some(tmp_path)
    spoil(newest(tmp_path))
    with pytest.raises(StateError, match=text):
        opened(tmp_path, Ledger())
