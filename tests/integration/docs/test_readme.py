"""README's commands without containers, followed word for word on each interpreter.

What the reader has already is prepared here: three brokers on port 9092, a registry on port 8081 and, as there is no
Internet, the simulated exchange in the place of Binance and a folder with the locked wheels in the place of the index.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.interpreters import ROOT, interpreters, version_of
from tests.harness.kafka import KafkaUnavailable, jars, java
from tests.harness.locked_files import download, folder_of
from tests.harness.page import Step, read

README = ROOT / "README.md"
LOCK = "requirements/demo.txt"
"""What ``pip install .`` needs, setuptools for the build included."""
PAGE = """## What the reader has

<!-- terminal kafka, stays -->
```sh
{python} -m tests.harness.kafka_foreground --port 9092 --nodes 3
```

<!-- excerpt -->
```text
127.0.0.1:9092,…
```

<!-- terminal registry, stays -->
```sh
{python} -m tests.harness.registry --port 8081
```

<!-- excerpt -->
```text
http://127.0.0.1:8081
```

<!-- terminal exchange, stays -->
```sh
{python} -m ingest simulate --symbols BTCUSDT,ETHUSDT --rate 100 --port 9443 --rest-port 8443 --admin-port 9444
```

<!-- excerpt -->
```text
admin   http://127.0.0.1:9444
```

```sh
export K2_BINANCE_WEBSOCKET_URL=ws://127.0.0.1:9443 K2_BINANCE_REST_URL=http://127.0.0.1:8443
export PATH={interpreter}:$PATH PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels} PIP_CONFIG_FILE=/dev/null
```

## README

```sh
{commands}
```

<!-- stays -->
```sh
{last}
```

<!-- excerpt -->
```text
{{"time":"…","level":"INFO","logger":"ingest.http.server","message":"status server on http://127.0.0.1:9095"}}
```

## What it does

<!-- terminal another, again -->
```sh
source .venv-run/bin/activate
python -c 'import sys; print(sys.version.split()[0])'
ingest health
curl -s localhost:9095/metrics | grep '^ingest_trades_committed_total.*BTCUSDT.* [1-9]'
```

<!-- excerpt, numbers vary -->
```text
{version}
ingest_trades_committed_total{{symbol="BTCUSDT"}} 115.0
```

<!-- terminal another -->
```sh
ingest audit --bootstrap-servers localhost:9092 --schema-registry-url http://localhost:8081 --ledger http://127.0.0.1:9444
```

<!-- excerpt -->
```text
PASS: … trades of 2 symbols are in the topic exactly once, in order and unaltered; 0 ids are void
```

<!-- interrupt main exchange registry kafka -->
"""


def without_containers() -> Step:
    """The block of README that installs and runs the service."""
    (step,) = (step for step in read(README) if "pip install ." in step.commands)
    return step


def test_the_lines_install_and_then_run_the_service() -> None:
    lines = without_containers().commands.splitlines()
    assert lines[-1] == "ingest run"
    commands = [line.partition("#")[0].split()[:2] for line in lines]
    assert ["pip", "install"] in commands
    assert commands.index(["ingest", "check"]) < commands.index(["ingest", "topics"]) < len(commands) - 1


@pytest.mark.integration
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("python", interpreters(), ids=lambda python: ".".join(map(str, version_of(python))))
def test_the_service_records_after_readme_s_lines(python: str, tmp_path: Path) -> None:
    try:
        java()
        jars()
    except KafkaUnavailable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no Kafka: {error}")
    download(LOCK, sys.executable)
    text = "import sys; print(sys.base_prefix)"
    prefix = subprocess.run([python, "-c", text], capture_output=True, text=True, check=True).stdout.strip()
    *commands, last = without_containers().commands.splitlines()
    page = tmp_path / "README.md"
    page.write_text(
        PAGE.format(
            python=sys.executable,
            interpreter=Path(prefix) / "bin",
            wheels=folder_of(LOCK),
            commands="\n".join(commands),
            last=last,
            version=".".join(map(str, version_of(python))),
        )
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.harness.walk", "--fresh", str(page)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=1700,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
