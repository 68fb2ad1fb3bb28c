"""The report as JSON: what others read of it."""

import json
from pathlib import Path

from ingest_ops.deployment import report
from ingest_ops.deployment.audit_trail import AuditTrail
from ingest_ops.deployment.plan import parse
from tests.ops.deployment.world import START, World, closing, deployer


def test_it_names_the_time_that_it_is_about(tmp_path: Path) -> None:
    world = World(tmp_path)
    with closing(deployer(world)) as one:
        one.open("d1", parse({"version": "v2", "watch_seconds": 120, "validate_seconds": 180}))
        record = one.run("d1", until=lambda _: False)
    paths = report.write(tmp_path, record, AuditTrail(tmp_path / "none.trail.jsonl"), generated_at=START + 9999)
    window = json.loads(paths["json"].read_text())["window"]
    assert window == {"start": report._stamp(START), "end": report._stamp(world.now), "tz": "UTC"}
    assert window["start"].endswith("Z")
