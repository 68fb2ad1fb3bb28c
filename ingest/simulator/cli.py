"""The options of ``ingest simulate`` and its exit code: 0 stopped by a signal, 2 options that cannot be used."""

import argparse
import asyncio
import json
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import get_args

from ingest.command import arguments as kinds
from ingest.command import exit_codes, terminal
from ingest.simulator.app import Options
from ingest.simulator.app import run as serve
from ingest.simulator.frames import LAYOUTS
from ingest.simulator.market import SINGLE, SKEW, listings
from ingest.simulator.plan import Step, from_file, seeded
from ingest.simulator.rules import LifetimeEnd, Rules
from ingest.simulator.seeded_book import LEVELS, ORDERS
from ingest.simulator.tls import FLAWS

_DEFAULT = Rules()

EPILOG = """\
exit codes: 0 stopped by SIGTERM or SIGINT, 2 options that cannot be used (a port that is taken among them)

examples:
  ingest simulate --symbols 20 --rate 2000                       ports of the system's choice, printed
  ingest simulate --port 9443 --rest-port 8443 --admin-port 9444
  ingest simulate --fault-rate 6 --fault-seed 7                  six faults a minute, the same ones each time
  ingest simulate --state exchange                               started again, it has its trades and goes on
  ingest simulate --replay trades.ndjson.gz --speed 20           a recording, twenty times as fast
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the simulator's options."""
    parser.description = (
        "Simulates Binance's spot market data strictly: streams, REST, and an admin API with the ledger and faults. "
        "Ports are chosen by the system unless given; what it prints, and the ready file, say which."
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    add = parser.add_argument
    add(
        "--ready-file",
        type=kinds.path,
        metavar="FILE",
        help="written once all ports listen: pid, ws_url, rest_url, admin_url",
    )
    add("--json", action="store_true", help="print the addresses as one JSON object, as in the ready file")
    add("--host", type=kinds.host, default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--port", type=kinds.port, default=0, metavar="N", help="of the streams")
    add("--rest-port", type=kinds.port, default=0, metavar="N")
    add("--admin-port", type=kinds.port, default=0, metavar="N")
    source = parser.add_argument_group("source of trades")
    add = source.add_argument
    add("--symbols", default="10", metavar="N|A,B", help="how many or which; BASE/QUOTE where the split is unclear")
    add(
        "--rate",
        type=kinds.number(above=0, most=1e6),
        default=100.0,
        metavar="N",
        help="trades per second of all symbols (default: %(default)g)",
    )
    add("--seed", type=kinds.whole(-(2**62), 2**62), default=1, help="of the market's content (default: %(default)s)")
    add(
        "--burst",
        type=kinds.whole(1, 100_000),
        default=900,
        metavar="N",
        help="most trades in one millisecond (default: %(default)s)",
    )
    add(
        "--single", type=kinds.number(least=0, most=1), default=SINGLE, metavar="SHARE",
        help="of orders with one fill: each is an aggregate of its own (default: %(default)g; 0.915 was recorded)",
    )  # fmt: skip
    add(
        "--skew", type=kinds.number(least=0, most=10), default=SKEW, metavar="X",
        help="how unevenly symbols trade: weight 1/place^X (default: %(default)g; 1.1 was recorded)",
    )  # fmt: skip
    add(
        "--replay",
        type=kinds.path,
        metavar="FILE",
        help="replay a recording (.ndjson or .ndjson.gz) instead, with all its streams, once",
    )
    add(
        "--speed",
        type=kinds.number(least=0, most=1e6),
        default=1.0,
        metavar="X",
        help="of the replay; 0: as fast as clients read",
    )
    add("--edges", action="store_true", help="ids, prices, quantities and times at every bound where encoders go wrong")
    add(
        "--book-levels", type=kinds.whole(1, 5000), default=LEVELS, metavar="N",
        help="of each side of an order book, usually (default: %(default)s)",
    )  # fmt: skip
    add(
        "--book-orders", type=kinds.number(least=0, most=1000), default=ORDERS, metavar="N",
        help="changes of a book that follow a trade, on average (default: %(default)g; 14 were recorded of BTCUSDT)",
    )  # fmt: skip
    add("--paused", action="store_true", help="do not trade before POST /admin/market says so")
    add(
        "--state", type=kinds.path, metavar="FOLDER",
        help="keep trades, ids and voids there over restarts (default: each start is a new exchange)",
    )  # fmt: skip
    add(
        "--state-size", type=kinds.whole(1, 4096), default=64, metavar="MB",
        help="of each of the folder's two files; the older one is forgotten (default: %(default)s)",
    )  # fmt: skip
    add("--keep", type=kinds.whole(0, 2**40), metavar="N", help="forget all but the newest N trades per symbol")
    add(
        "--memory", type=kinds.number(above=0, most=1e6), default=768.0, metavar="MB",
        help="for the trades of all symbols; the oldest are forgotten beyond it (default: %(default)g)",
    )  # fmt: skip
    rules = parser.add_argument_group("rules")
    add = rules.add_argument
    add("--layout", choices=LAYOUTS, default="current", help="of trade events (default: %(default)s)")
    add(
        "--ping-interval",
        type=kinds.seconds,
        default=_DEFAULT.ping_interval_s,
        metavar="S",
        help="default: %(default)g",
    )
    add("--pong-timeout", type=kinds.seconds, default=_DEFAULT.pong_timeout_s, metavar="S", help="default: %(default)g")
    add("--lax-pongs", action="store_true", help="tolerate pongs whose payload no ping had")
    add(
        "--lifetime",
        type=kinds.seconds,
        default=_DEFAULT.lifetime_s,
        metavar="S",
        help="of a connection (default: %(default)g)",
    )
    add("--lifetime-end", choices=get_args(LifetimeEnd), default="close", help="default: %(default)s")
    add(
        "--notice-lead",
        type=kinds.number(least=0),
        default=_DEFAULT.notice_lead_s,
        metavar="S",
        help="from a notice to the close",
    )
    add(
        "--max-messages",
        type=kinds.whole(1),
        default=_DEFAULT.messages,
        metavar="N",
        help="per second (default: %(default)s)",
    )
    add(
        "--max-streams",
        type=kinds.whole(1),
        default=_DEFAULT.streams,
        metavar="N",
        help="per connection (default: %(default)s)",
    )
    add("--max-connects", type=kinds.whole(1), default=_DEFAULT.connects, metavar="N", help="per 300 s and address")
    add(
        "--ban-after",
        type=kinds.whole(0),
        default=0,
        metavar="N",
        help="ban an address after N closes for too many messages",
    )
    add("--flat-errors", action="store_true", help="errors of control messages as documented, not as seen")
    add("--no-deflate", action="store_true", help="do not negotiate permessage-deflate")
    add("--compress", action="store_true", help="compress data where permessage-deflate is negotiated")
    tls = parser.add_argument_group("TLS")
    add = tls.add_argument
    add("--tls", action="store_true", help="wss and https by a CA of its own; the ready file has ca_file")
    add(
        "--tls-dir",
        type=kinds.path,
        metavar="DIR",
        help="where ca.pem and its key are kept (default: a temporary directory)",
    )
    add("--tls-names", type=_words, default=(), metavar="A,B", help="further host names of the certificate")
    add("--tls-flaw", choices=FLAWS, default="none", help="serve a certificate that must be refused")
    faults = parser.add_argument_group("faults, from the first trade on")
    add = faults.add_argument
    add("--fault-plan", type=kinds.path, metavar="FILE", help="a JSON list of {at, kind, ...}")
    add(
        "--fault-rate",
        type=kinds.number(least=0, most=1e5),
        default=0.0,
        metavar="N",
        help="faults per minute drawn by a seed",
    )
    add("--fault-seed", type=kinds.whole(-(2**62), 2**62), default=1, metavar="N", help="default: %(default)s")
    add("--fault-kinds", type=_words, default=(), metavar="A,B", help="those that are drawn (default: all survivable)")
    rest = parser.add_argument_group("REST")
    add = rest.add_argument
    add(
        "--weight-limit",
        type=kinds.whole(1),
        default=6000,
        metavar="N",
        help="per minute and address (default: %(default)s)",
    )
    add(
        "--history-lag",
        type=kinds.number(least=0),
        default=0.0,
        metavar="S",
        help="how late historicalTrades learns of a trade",
    )
    add(
        "--retention",
        type=kinds.whole(0, 2**40),
        metavar="N",
        help="newest trades per symbol that historicalTrades knows (default: all)",
    )


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _plan(arguments: argparse.Namespace) -> Iterable[Step]:
    if arguments.fault_kinds and (arguments.fault_plan is not None or not arguments.fault_rate):
        raise ValueError(
            "--fault-kinds chooses among faults that --fault-rate draws: give --fault-rate, no --fault-plan"
        )
    if arguments.fault_plan is not None:
        return from_file(arguments.fault_plan)
    if arguments.fault_rate:
        return seeded(arguments.fault_seed, arguments.fault_rate, kinds=arguments.fault_kinds)
    return ()


def options(arguments: argparse.Namespace) -> Options:
    """The simulator's options. Raises ValueError with what is wrong."""
    named = () if arguments.replay is not None and arguments.symbols.isdigit() else listings(arguments.symbols)
    return Options(
        symbols=tuple(named),
        rate=arguments.rate,
        seed=arguments.seed,
        burst=arguments.burst,
        single=arguments.single,
        skew=arguments.skew,
        replay=arguments.replay,
        speed=arguments.speed,
        paused=arguments.paused,
        host=arguments.host,
        port=arguments.port,
        rest_port=arguments.rest_port,
        admin_port=arguments.admin_port,
        ready_file=arguments.ready_file,
        state=arguments.state,
        state_mb=arguments.state_size,
        keep=arguments.keep,
        memory_mb=arguments.memory,
        edges=arguments.edges,
        book_levels=arguments.book_levels,
        book_orders=arguments.book_orders,
        layout=arguments.layout,
        weight_limit=arguments.weight_limit,
        history_lag_s=arguments.history_lag,
        retention=arguments.retention,
        tls=arguments.tls or arguments.tls_flaw != "none",
        tls_dir=arguments.tls_dir,
        tls_names=arguments.tls_names,
        tls_flaw=arguments.tls_flaw,
        plan=_plan(arguments),
        rules=Rules(
            ping_interval_s=arguments.ping_interval,
            pong_timeout_s=arguments.pong_timeout,
            strict_pong=not arguments.lax_pongs,
            messages=arguments.max_messages,
            streams=arguments.max_streams,
            connects=arguments.max_connects,
            lifetime_s=arguments.lifetime,
            lifetime_end=arguments.lifetime_end,
            notice_lead_s=arguments.notice_lead,
            error_shape="flat" if arguments.flat_errors else "nested",
            ban_after=arguments.ban_after,
            negotiate_deflate=not arguments.no_deflate,
            compress=arguments.compress,
        ),
    )


def _announcer(*, as_json: bool) -> Callable[[Mapping[str, object]], None]:
    def announce(ready: Mapping[str, object]) -> None:
        lines = [f"{name.removesuffix('_url'):8}{ready[name]}" for name in ready if name != "pid"]
        terminal.write((json.dumps(ready) if as_json else "\n".join(lines)) + "\n")

    return announce


def run(arguments: argparse.Namespace) -> int:
    """Simulate until SIGTERM or SIGINT; returns the exit code."""
    logging.getLogger("websockets.server").setLevel(logging.WARNING)
    try:
        asyncio.run(serve(options(arguments), _announcer(as_json=arguments.json)))
    except (ValueError, OSError, RecursionError) as error:
        terminal.complain("ingest simulate", str(error))
        return exit_codes.UNUSABLE
    return exit_codes.DONE
