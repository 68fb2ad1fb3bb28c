"""The report: the figures under names that others rely on, and the same as a page."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ingest_ops.render import Column, Fact, Page, Section, Table, Text
from tests.campaigns.bench import instructions
from tests.campaigns.bench.cases import BURST, MISSED_SYMBOLS, ROUNDS, SHARED, SUSTAINED, SYMBOLS, scaling

CRYPTOFEED = "cryptofeed "


def summary(results: Mapping[str, Any]) -> dict[str, Any]:
    """The figures under the names that others rely on; None where a part is missing."""
    cost = {name: row["cpu_us_per_trade"] for name, row in results["saturation"].items()}
    rows = results.get("latency", [])
    usual: dict[str, Any] = next((row for row in rows if row["case"] != "plain" and row["rate"] == 5000.0), {})
    variants, burst, caught = results.get("variants"), results.get("burst", {}), results.get("catch_up", {})
    by_symbols = [variants[f"{count} symbols"]["cpu_us_per_trade"] for count in SYMBOLS] if variants else []
    shards = scaling(variants) if variants else {}
    cryptofeed = {name: found / cost["websockets"] for name, found in cost.items() if name.startswith(CRYPTOFEED)}
    return {
        "speedup_vs_plain": cost["plain"] / cost["websockets"],
        "speedup_vs_plain_tls": cost["plain tls"] / cost["websockets tls"],
        "speedup_vs_plain_picows": cost["plain"] / cost["picows"],
        "speedup_vs_plain_picows_tls": cost["plain tls"] / cost["picows tls"],
        "speedup_vs_plain_not_compiled": cost["plain"] / cost["websockets, not compiled"],
        "speedup_vs_plain_mock_broker": _ratio(cost, "plain, mock broker", "websockets, mock broker"),
        "speedup_vs_cryptofeed": min(cryptofeed.values(), default=None),
        "speedup_vs_cryptofeed_by_version": {
            name.removeprefix(CRYPTOFEED): ratio for name, ratio in cryptofeed.items()
        },
        "cpu_us_per_trade": cost["websockets"],
        "trades_per_second_core": 1e6 / cost["websockets"],
        "latency_ms_p50": usual.get("latency_ms_p50"),
        "latency_ms_p99": usual.get("latency_ms_p99"),
        "rss_bytes": int(results["saturation"]["websockets"]["rss_bytes"]),
        "cost_spread_1_to_1500_symbols": max(by_symbols) / min(by_symbols) - 1 if by_symbols else None,
        "cost_of_two_shards": shards.get("cost_of_two_shards"),
        "two_shards_carry": shards.get("two_shards_carry"),
        "burst_complete": burst.get("complete"),
        "burst_pong_ms_max": burst.get("pong_ms_max"),
        "catch_up_cpu_us_per_trade": caught.get("cpu_us_per_trade"),
        "catch_up_trades_per_second": caught.get("trades_per_second"),
        "catch_up_core_share_at_full_budget": caught.get("core_share_at_full_budget"),
    }


def _ratio(cost: Mapping[str, float], of: str, to: str) -> float | None:
    return cost[of] / cost[to] if of in cost and to in cost else None


def _numbers(first: str, *others: str) -> list[str | Column]:
    return [first, *(Column(title, numeric=True) for title in others)]


def _spread(row: Mapping[str, float]) -> str:
    return f"{row['cpu_us_min']:.2f} to {row['cpu_us_max']:.2f}"


def _saturation(found: Mapping[str, Any]) -> Iterable[Text | Table]:
    yield Text(
        "Client on one core, real Kafka unless it says mock; the service with sequencing, transactions and metrics on. "
        "Trades come as fast as the socket takes them, faster than Kafka does: RSS is that of the queue. What the "
        "process needs where it keeps up stands with the fixed rates. The mock is librdkafka's own broker, in memory: "
        "what is different there is Kafka's share of cost and noise."
    )
    yield Table(
        columns=_numbers("Client", "CPU µs per trade", "Spread", "Trades/s of a whole core", "RSS MB"),
        rows=[
            [name, f"{row['cpu_us_per_trade']:.2f}", _spread(row), f"{1e6 / row['cpu_us_per_trade']:,.0f}",
             f"{row['rss_bytes'] / 1e6:.0f}"]
            for name, row in found.items()
        ],
    )  # fmt: skip
    if not any(name.startswith(CRYPTOFEED) for name in found):
        yield Text("cryptofeed is not in the table: it was not installed (make bench-cryptofeed), or failed.")


def _latency(found: Iterable[Mapping[str, Any]]) -> Iterable[Text | Table]:
    yield Table(
        columns=_numbers("Client", "Rate", "CPU µs per trade", "Of a core", "RSS MB", "p50 ms", "p99 ms", "p99.9 ms",
                         "Source late ms"),
        rows=[
            [row["case"], f"{row['rate']:,.0f}", f"{row['cpu_us_per_trade']:.1f}",
             f"{row['cpu_us_per_trade'] * row['rate'] / 1e6:.0%}", f"{row['rss_bytes'] / 1e6:.0f}",
             *(f"{row[f'latency_ms_p{p}']:.1f}" for p in ("50", "99", "99_9")), f"{row['source_late_ms']:.1f}"]
            for row in found
        ],
    )  # fmt: skip


def _burst(found: Mapping[str, Any]) -> Iterable[Text | Table]:
    missing = int(found["pongs_missing"])
    yield Text(
        f"{found['trades']:,} trades, sent at {found['trades_per_second']:,.0f}/s, {found['runs']} times out of a calm "
        f"market: {'all arrive' if found['complete'] else 'NOT ALL ARRIVE'} at the read_committed consumer, "
        f"{found['seconds']:.2f} s after the first was sent (median). A ping each 100 ms on each connection: the "
        f"latest pong of all after {found['pong_ms_max']:.0f} ms, {missing or 'none'} missing; the exchange waits for "
        f"a minute. RSS {found['rss_bytes'] / 1e6:.0f} MB at most."
    )


def _sustained(found: Mapping[str, Any]) -> Iterable[Text | Table]:
    yield Table(
        columns=_numbers("Client", "Sent per second", "CPU µs per trade", "RSS MB"),
        rows=[
            [name, f"{row['trades_per_second']:,.0f}", f"{row['cpu_us_per_trade']:.2f}",
             f"{row['rss_bytes'] / 1e6:.0f}"]
            for name, row in found.items()
        ],
    )  # fmt: skip


def _variants(found: Mapping[str, Any]) -> Iterable[Text | Table]:
    yield Table(
        columns=_numbers("Variant", "CPU µs per trade", "Spread", "Positions per trade", "RSS MB"),
        rows=[
            [name, f"{row['cpu_us_per_trade']:.2f}", _spread(row), f"{row['positions_per_trade']:.3f}",
             f"{row['rss_bytes'] / 1e6:.0f}"]
            for name, row in found.items()
        ],
    )  # fmt: skip
    costs = [found[f"{count} symbols"]["cpu_us_per_trade"] for count in SYMBOLS]
    shards = scaling(found)
    yield Text(
        f"From {SYMBOLS[0]} to {SYMBOLS[-1]:,} symbols the dearest costs {max(costs) / min(costs) - 1:.0%} more than "
        f"the cheapest. Pair and shards have {SHARED} symbols. Two shards together cost "
        f"{shards['cost_of_two_shards']:.2f} times what one does for the same trades, so that with a core each they "
        f"could carry {shards['two_shards_at_most']:.2f} times as much, were nothing else in the way. "
        + (
            f"With a core each they carried {shards['two_shards_carry']:.2f} times as much."
            if shards["two_shards_carry"] is not None
            else f"That was not measured: it takes four cores, and this machine has {shards['cores']}; here both "
            "shards share one."
        )
    )


def _catch_up(found: Mapping[str, Any]) -> Iterable[Text | Table]:
    yield Text(
        f"{found['missed']:,} trades of {MISSED_SYMBOLS} symbols happen while the service is away. Started again it "
        f"has them in Kafka {found['seconds_from_start']:.1f} s after its start, for {found['weight']:,.0f} of weight "
        f"({found['pages']:.0f} pages of {found['trades_per_page']:.0f}), all of which one minute allows: "
        f"{found['trades_per_second']:,.0f} trades/s at {found['cpu_us_per_trade']:.1f} µs of CPU each. In the long "
        f"run the exchange's whole weight allows {found['budget_trades_per_second']:,.0f} trades/s, which is "
        f"{found['core_share_at_full_budget']:.1%} of a core; the service takes half of that weight as shipped."
    )


def _start_and_idle(found: Mapping[str, Any]) -> Iterable[Text | Table]:
    yield Text(
        f"First commit at most {found['start_to_commit_s_at_most']:.2f} s after the start; "
        f"idle {found['idle_cpu_share']:.1%} of a core."
    )


def _instructions(found: Mapping[str, Any]) -> Iterable[Text | Table]:
    sources, compiled = found[instructions.PLAIN], found[instructions.COMPILED]
    yield Table(
        columns=_numbers("Stage", "Compiled", "As Python"),
        rows=[[stage, f"{compiled[stage]:,}", f"{count:,}"] for stage, count in sources.items()],
    )


SECTIONS: tuple[tuple[str, str, Callable[[Any], Iterable[Text | Table]]], ...] = (
    ("saturation", "At saturation", _saturation),
    ("latency", "At a fixed rate: exchange to read_committed consumer", _latency),
    ("burst", f"A burst of {BURST:,} trades in a second", _burst),
    ("sustained", f"At {SUSTAINED:,} trades/s, production's settings", _sustained),
    ("variants", "Variants of the service with websockets, at saturation", _variants),
    ("catch_up", "Catching up from history", _catch_up),
    ("start_and_idle", "Start and rest", _start_and_idle),
    ("instructions", "Instructions per trade, Python's side, by valgrind", _instructions),
)


def page(results: Mapping[str, Any], command: str) -> Page:
    """The report of a run; parts that failed are named."""
    key, machine = results["summary"], results["machine"]
    beside = "".join(
        f", {ratio:.1f} times less than cryptofeed {version}"
        for version, ratio in key["speedup_vs_cryptofeed_by_version"].items()
    )
    return Page(
        kind="bench",
        title="Benchmark against the plain path",
        verdict=None,
        summary=f"{key['speedup_vs_plain']:.1f} times less CPU per trade than the plain path{beside} "
        f"({key['cpu_us_per_trade']:.1f} µs), at a load of {machine['load_before']:.1f} by others.",
        coverage=[Fact("Rounds", f"{ROUNDS}, interleaved; medians"), Fact("Failed parts", str(len(results["failed"])))],
        reasons=[f"{part}: {why}" for part, why in results["failed"].items()],
        sections=[
            Section(title, blocks=list(blocks(results[part]))) for part, title, blocks in SECTIONS if part in results
        ],
        facts=[Fact("Command", command), Fact("Machine", f"{machine['cores']} cores, {machine['python']}")],
        generated_at=results["generated_at"],
    )
