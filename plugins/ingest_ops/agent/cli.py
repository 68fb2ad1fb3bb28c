"""The options of ``python -m ingest_ops agent``."""

import argparse
import os
import signal
import threading
from pathlib import Path

from ingest import logs
from ingest.command import arguments as kinds
from ingest.command import exit_codes, terminal
from ingest.core.errors import Stop
from ingest_ops.agent.process_slots import ProcessConfig, ProcessSlots, load_config
from ingest_ops.agent.server import AgentServer
from ingest_ops.agent.slots import AgentRefusal, Slots
from ingest_ops.common.secret import secret

EPILOG = """\
The token comes from K2_AGENT_TOKEN or the file that K2_AGENT_TOKEN_FILE names. It serves JSON, and nothing else.

exit codes: 0 stopped by SIGTERM or SIGINT, 2 bad settings, or no Docker

examples:
  python -m ingest_ops agent --context . --project k2
  python -m ingest_ops agent --backend process --config agent.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EPILOG
    parser.add_argument("--host", type=kinds.host, default="127.0.0.1", help="default: %(default)s")
    parser.add_argument("--port", type=kinds.port, default=9099, help="default: %(default)s")
    parser.add_argument("--backend", choices=("docker", "process"), default="docker", help="default: %(default)s")
    parser.add_argument(
        "--directory",
        type=kinds.path,
        default=Path("agent"),
        help="with process: logs and records (default: %(default)s)",
    )
    parser.add_argument("--config", type=kinds.path, help="with process: settings of the slots, a JSON file")
    parser.add_argument(
        "--context", type=kinds.path, default=Path(), help="with docker: folder that versions are built from"
    )
    parser.add_argument("--image", default="k2-ingest", help="with docker: name of the image (default: %(default)s)")
    parser.add_argument("--project", default="", help="with docker: compose project of the slots (default: any)")


def run(namespace: argparse.Namespace) -> int:
    """Serve until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        token = secret(os.environ, "K2_AGENT_TOKEN")
        logs.configure("INFO", "text", secrets=frozenset({token}))
        slots = _slots(namespace)
        server = AgentServer(
            namespace.host,
            namespace.port,
            slots=slots,
            token=token,
            allowed_hosts=os.environ.get("K2_HTTP_ALLOWED_HOSTS", "").split(","),
        )
        with server:
            stop.wait()
    except (AgentRefusal, Stop, ValueError, OSError) as error:
        terminal.complain("ingest_ops agent", str(error))
        return exit_codes.UNUSABLE
    slots.close()
    return 0


def _slots(namespace: argparse.Namespace) -> Slots:
    if namespace.backend == "process":
        config = load_config(namespace.config) if namespace.config is not None else ProcessConfig()
        return ProcessSlots(namespace.directory, config)
    from ingest_ops.agent.docker_slots import DockerSlots  # the library is there only where Docker is

    return DockerSlots.connect(image=namespace.image, context=namespace.context, project=namespace.project)
