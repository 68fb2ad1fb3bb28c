"""``python -m ingest_ops validate --slot green``: judge a running slot by the gates, and change nothing."""

import argparse
import json

import msgspec

from ingest.command import arguments as kinds
from ingest.command import exit_codes, terminal
from ingest_ops.agent.slots import SLOTS
from ingest_ops.common.verdict import Verdict
from ingest_ops.deployment.commands.common import add_shard, explain, guarded
from ingest_ops.deployment.deployment_state import GateResult
from ingest_ops.deployment.gate_evaluation import evaluate, overall
from ingest_ops.deployment.gate_inputs import Scope
from ingest_ops.deployment.gates import gates_of
from ingest_ops.deployment.plan import parse
from ingest_ops.deployment.settings import DeployerContext, now
from ingest_ops.deployment.state_machine import State

CODES = {Verdict.PASS: 0, Verdict.FAIL: 1, Verdict.INCONCLUSIVE: exit_codes.INCONCLUSIVE}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    explain(
        parser,
        "0 every gate passed, 1 one failed, 2 INCONCLUSIVE: data is missing, or bad settings",
        "validate --slot blue",
        "validate --slot green --shadow --window 300 --json",
    )
    parser.add_argument("--slot", choices=SLOTS, required=True)
    parser.add_argument("--window", type=kinds.seconds, default=600.0, metavar="SECONDS", help="default: %(default)g")
    parser.add_argument("--shadow", action="store_true", help="judge it as a candidate that watches (G7), not a writer")
    parser.add_argument("--scrape-seconds", type=kinds.seconds, default=15.0, metavar="N", help="default: %(default)g")
    add_shard(parser, "the only one")
    parser.add_argument("--json", action="store_true", help="one JSON object with queries and samples")


def run(namespace: argparse.Namespace) -> int:
    """Judge; returns the exit code."""

    def validate(parts: DeployerContext) -> int:
        plan = parse({"version": "any", "scrape_seconds": namespace.scrape_seconds, "shard": parts.shard})
        end = now()
        start = end - namespace.window
        other = next(slot for slot in SLOTS if slot != namespace.slot)
        scope = Scope(plan=plan, candidate=namespace.slot, live=other, start=start, end=end)
        gates = gates_of(State.SHADOW if namespace.shadow else State.VALIDATE)
        # Comparisons need a predecessor: by hand the slot is judged by itself.
        alone = [gate for gate in gates if all(one.slot == "candidate" for one in gate.inputs.values())]
        results = [evaluate(gate, scope, parts.queries) for gate in alone]
        verdict = overall(results)
        if namespace.json:
            data = {"slot": namespace.slot, "verdict": verdict, "gates": msgspec.to_builtins(results)}
            terminal.write(json.dumps(data, indent=2) + "\n")
        else:
            terminal.write("".join(f"{_line(one)}\n" for one in results) + f"{verdict}: {namespace.slot}\n")
        return CODES[verdict]

    return guarded(validate, shard=namespace.shard)


def _line(one: GateResult) -> str:
    return f"{one.gate:4} {one.verdict:12} {one.title}: {one.reason} ({one.found}/{one.expected} samples)"
