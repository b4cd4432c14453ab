"""Lines over HTTP: InfluxDB's two write interfaces; the only user of influxdb-client and urllib3.

Both block and are called from a thread; each returns what the server said and judges nothing.
"""

from __future__ import annotations

import contextlib
import json
import socket
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from edge_agent.errors import ConfigError, TemporaryError
from edge_agent.settings.models import HistorianSettings

DEFAULT_DATABASE = "edge_agent"
_MAX_REPLY = 64 * 1024


class NoAnswer(OSError):
    """No connection, no complete answer, or none in time; whether the lines were stored is not known."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def message(self) -> str:
        """The server's own words, without the JSON around them."""
        text = self.body.decode("utf-8", "replace").strip()
        try:
            content = json.loads(text)
        except ValueError:
            return text[:500]
        if isinstance(content, dict):
            return str(content.get("message") or content.get("error") or text)[:2000]
        return text[:500]


class Writer(ABC):
    """Posts line protocol; for one thread, but for `abort`."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._sockets: list[socket.socket] = []
        _note_sockets(pool, self._sockets)

    @abstractmethod
    def write(self, body: bytes) -> Answer:
        """Post lines, timestamps in ns. NoAnswer where there is none within the timeout."""

    def abort(self) -> None:
        """End the request that is running, from another thread: it is then not answered.

        A server that sends a byte now and then is within every timeout of urllib3's for ever.
        """
        for one in self._sockets:
            with contextlib.suppress(OSError):  # it has just been closed
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connections."""
        self._pool.clear()


def _note_sockets(manager: Any, sockets: list[socket.socket]) -> None:
    """Let the urllib3 pool manager keep its newest connection's socket in `sockets`."""

    def noting(base: Any) -> Any:
        class Connection(base.ConnectionCls):  # type: ignore[misc]
            def connect(self) -> None:
                super().connect()
                sockets[:] = [self.sock]

        return type("Pool", (base,), {"ConnectionCls": Connection})

    manager.pool_classes_by_scheme = {
        scheme: noting(base) for scheme, base in manager.pool_classes_by_scheme.items()
    }


def open_writer(settings: HistorianSettings) -> Writer:
    """The writer for the interface the configuration names."""
    return V1Writer(settings) if settings.api == "v1" else V2Writer(settings)


class V1Writer(Writer):
    """`/write` of InfluxDB 1.x, through urllib3."""

    def __init__(self, settings: HistorianSettings) -> None:
        import urllib3

        self._error = urllib3.exceptions.HTTPError
        self._url = settings.url.rstrip("/")
        self._database = settings.database or DEFAULT_DATABASE
        self.database = quoted(self._database)
        """The database's name as InfluxQL has it."""
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        if settings.username:
            password = settings.password.get_secret_value() if settings.password else ""
            headers |= urllib3.make_headers(basic_auth=f"{settings.username}:{password}")
        timeout = urllib3.Timeout(total=settings.timeout)
        super().__init__(urllib3.PoolManager(headers=headers, timeout=timeout, retries=False))

    def write(self, body: bytes) -> Answer:
        """Post lines to the database."""
        return self._post("write", {"db": self._database, "precision": "ns"}, body)

    def ask(self, question: str) -> Answer:
        """Put an InfluxQL question, also one that changes something. NoAnswer where there is no answer."""
        return self._post("query", {"db": self._database, "q": question}, b"")

    def _post(self, path: str, parameters: Mapping[str, str], body: bytes) -> Answer:
        try:
            reply = self._pool.request("POST", f"{self._url}/{path}?{urlencode(parameters)}", body=body)
        except (self._error, OSError) as error:
            raise NoAnswer(_plain(error)) from error
        return Answer(reply.status, reply.headers, reply.data[:_MAX_REPLY])


def quoted(name: str) -> str:
    """A name in InfluxQL."""
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


class V2Writer(Writer):
    """`/api/v2/write` of InfluxDB 2 and 3, 1.8 and VictoriaMetrics, through influxdb-client.

    Its synchronous service takes ready-made bytes. Its `Point`, its batching (which only logs errors) and its
    `health()` are left alone.
    """

    def __init__(self, settings: HistorianSettings) -> None:
        if not settings.bucket:
            raise ConfigError(["historian.bucket is missing: with `api: v2` name the bucket to write to"])
        import urllib3
        from influxdb_client.client.influxdb_client import InfluxDBClient
        from influxdb_client.rest import ApiException
        from influxdb_client.service.write_service import WriteService

        self._error = urllib3.exceptions.HTTPError
        self._refused = ApiException
        self._org = settings.org or ""
        self._bucket = settings.bucket
        self._client: Any = InfluxDBClient(
            url=settings.url.rstrip("/"),
            token=settings.token.get_secret_value() if settings.token else "",
            org=self._org,
            timeout=int(settings.timeout * 1000),
        )
        self._service: Any = WriteService(self._client.api_client)  # type: ignore[no-untyped-call]
        super().__init__(self._client.api_client.rest_client.pool_manager)

    def write(self, body: bytes) -> Answer:
        """Post lines to the bucket."""
        try:
            _, status, headers = self._service.post_write_with_http_info(
                self._org,
                self._bucket,
                body,
                precision="ns",
                content_encoding="identity",
                content_type="text/plain; charset=utf-8",
            )
        except self._refused as refusal:
            if refusal.status is None or refusal.status < 100:
                raise NoAnswer(str(refusal.reason)) from refusal
            reply = refusal.body or b""
            body = reply.encode() if isinstance(reply, str) else reply
            return Answer(int(refusal.status), dict(refusal.headers or {}), body[:_MAX_REPLY])
        except (self._error, OSError) as error:
            raise NoAnswer(_plain(error)) from error
        return Answer(status, dict(headers), b"")

    def close(self) -> None:
        """Close the connections."""
        super().close()
        self._client.close()


def ping(settings: HistorianSettings, timeout: float) -> None:
    """Ask the server of `settings` whether it is there. TemporaryError, saying why, where it is not."""
    import urllib3

    headers = {}
    if settings.api == "v1" and settings.username:
        password = settings.password.get_secret_value() if settings.password else ""
        headers = urllib3.make_headers(basic_auth=f"{settings.username}:{password}")
    elif settings.token is not None:
        headers = {"Authorization": f"Token {settings.token.get_secret_value()}"}
    where = f"{settings.url.rstrip('/')}/ping"
    try:
        reply = urllib3.request("GET", where, headers=headers, timeout=timeout, retries=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise TemporaryError(f"{settings.url} does not answer: {_plain(error)}") from error
    if reply.status not in (200, 204):
        raise TemporaryError(f"{where} answered {reply.status}; check historian.url and the credentials")


def _plain(error: BaseException) -> str:
    """urllib3's message without the object's address that it begins with."""
    return str(error).rpartition("object at 0x")[2].partition(">: ")[2] or str(error)
