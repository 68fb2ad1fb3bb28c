"""The service's two HTTP servers: metrics, health and status on one port, the control API on another."""

from contextlib import ExitStack
from types import TracebackType
from typing import Self

from ingest.control.ready_file import write_ready_file
from ingest.control.server import Commands, ControlServer, Probe, StatusServer, this_process
from ingest.http.auth import Role
from ingest.metrics import Metrics
from ingest.observers import Observers
from ingest.settings import Settings


class HttpEndpoints:
    """Opens both servers; closes them in reverse order."""

    def __init__(self, settings: Settings, metrics: Metrics, probe: Probe, commands: Commands) -> None:
        self._settings = settings.service
        self._metrics = metrics
        self._probe = probe
        self._commands = commands
        self._observers = Observers(metrics)
        self._exit = ExitStack()
        self.addresses: dict[str, str] = {}

    def __enter__(self) -> Self:
        service = self._settings
        process = this_process(service.instance_id)
        status = self._exit.enter_context(
            StatusServer(
                service.metrics_host,
                service.metrics_port,
                registry=self._metrics.registry,
                probe=self._probe,
                process=process,
                allowed_hosts=service.http_allowed_hosts,
            )
        )
        self.addresses["metrics_url"] = status.url
        if service.control_port is not None and service.control_token is not None:
            control = self._exit.enter_context(
                ControlServer(
                    service.control_host,
                    service.control_port,
                    tokens={
                        Role.READ: service.control_read_token or "",
                        Role.OPERATE: service.control_operate_token or "",
                        Role.DEPLOY: service.control_token,
                    },
                    probe=self._probe,
                    commands=self._commands,
                    process=process.process,
                    allowed_hosts=service.http_allowed_hosts,
                )
            )
            self.addresses["control_url"] = control.url
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        path = self._settings.ready_file
        if path is not None and path.is_file():
            with self._observers.guard("ready_file"):
                path.unlink()
        self._exit.close()

    def announce(self) -> None:
        """Write the ready file: pid and addresses. It is replaced whole.

        A file that cannot be written is logged and counted: the service records all the same.
        """
        if self._settings.ready_file is not None:
            with self._observers.guard("ready_file"):
                write_ready_file(self._settings.ready_file, self.addresses)
