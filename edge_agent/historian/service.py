"""The historian: receives what agents publish, keeps it in its own journal, and moves it into the store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from pathlib import Path

from edge_agent.buffer import Delivery, Journal, forward
from edge_agent.clock import Clock
from edge_agent.errors import ConfigError, SinkUnavailable, StoreError
from edge_agent.historian.embedded import EmbeddedStore
from edge_agent.historian.intake import Intake
from edge_agent.historian.ledger import FieldLedger
from edge_agent.historian.store import Store
from edge_agent.mqtt import MqttClient, MqttUnavailable, PublishRefused, Will
from edge_agent.settings.models import Configuration, MqttSettings

log = logging.getLogger(__name__)

SESSION = 60
"""Seconds the broker keeps undelivered messages while the historian is away.

No longer: agents send again what they hear nothing about, so that a kept session would only fill with
repeats, and in a shared group the dead would go on taking their part.
"""
SESSION_UNCONFIRMED = 7 * 86_400
"""The same where agents let go of a record at the broker's acknowledgement (`mqtt.confirm: broker`)."""
READER = "store"
SETTLE = 0.3
"""Seconds after connecting in which the broker tells who owns which machine."""
TIDY = 60.0
"""Seconds between looks for minutes to make and rows over their age."""


class Historian:
    """MQTT to the store of the configuration. `state` is the folder that holds `historian/`.

    The store's own folder has `journal.db`, `fields.json` (the ledger of field types) and, for the embedded
    store, `history.db`. `instance` tells historians that share the work apart.
    """

    def __init__(
        self,
        configuration: Configuration,
        clock: Clock,
        state: Path,
        *,
        instance: int = 1,
        mqtt: MqttSettings | None = None,
    ) -> None:
        if configuration.historian.kind == "none":
            raise ConfigError(["historian.kind is none: there is nothing to run"])
        self.folder = state / "historian"
        self.history = self.folder / "history.db"
        """The embedded store's file; `History` reads it."""
        self.ready = asyncio.Event()
        """Set once messages are received."""
        self._settings = configuration.historian
        self._clock = clock
        client_id = f"{configuration.agent}-historian-{instance}"
        self._confirms = configuration.confirm == "historian"
        session = SESSION if self._confirms else SESSION_UNCONFIRMED
        prefix = [level for level in (configuration.enterprise, configuration.site) if level]
        self.status_topic = "/".join([*prefix, "_agents", client_id, "status"])
        will = Will(self.status_topic, _status("offline", reason="connection lost"))
        self.client = MqttClient(mqtt or configuration.mqtt, client_id, will=will, keep_session=session)
        self.client.on_connect(self._connected)
        self._settling: asyncio.TimerHandle | None = None
        buffer = configuration.buffer
        self.journal = Journal(self.folder / "journal.db", clock, buffer, readers=(READER,), eager=False)
        self.intake = Intake(self.client, self.journal, prefix, buffer.commit_interval)
        self.store: Store | None = None
        self.delivery = Delivery(self._settings.kind)

    def _connected(self) -> None:
        if self.client.protocol == "3.1.1" and self.client.connections == 1:
            log.warning(
                "the broker speaks MQTT 3.1.1 only: run one historian, several would not share the work"
            )
        if self._settling is not None:
            self._settling.cancel()
        self._settling = asyncio.get_running_loop().call_later(SETTLE, self._settled)

    def _settled(self) -> None:
        self.intake.claims.settle()
        # agents hear this and send again what they published before anybody listened
        self.client.publish(self.status_topic, _status("online"), retain=True)
        self.ready.set()

    async def run(self) -> None:
        """Receive and store until cancelled. TemporaryError where another historian uses the folder."""
        await self.journal.open()
        try:
            # influxdb-client takes most of a second to import
            self.store = await asyncio.to_thread(self._make_store)
            self.client.start()
            tidying = asyncio.create_task(self._tidy(self.store), name="historian tidy")
            try:
                await forward(self.journal, self.journal.reader(READER), self.store, self.delivery)
            finally:
                tidying.cancel()
                await asyncio.wait([tidying])
        finally:
            await self._stop()

    async def _stop(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
        await self.intake.stop()
        with contextlib.suppress(MqttUnavailable, PublishRefused, TimeoutError):
            goodbye = self.client.publish(
                self.status_topic, _status("offline", reason="stopped"), retain=True
            )
            async with asyncio.timeout(1):
                await goodbye
        await self.client.stop(end_session=self._confirms)
        if self.store is not None:
            await self.store.close()
        await self.journal.close()

    async def _tidy(self, store: Store) -> None:
        """Once a minute: make minutes of what is new, drop what is over its age."""
        said = ""
        while True:
            await asyncio.sleep(TIDY)
            try:
                await store.tidy()
            except SinkUnavailable as away:
                if str(away) != said:
                    log.warning("minutes are not made, and nothing is dropped for its age: %s", away)
                said = str(away)
            else:
                said = ""

    def _make_store(self) -> Store:
        ledger = FieldLedger(self.folder / "fields.json")
        quarantine, retention = self.journal.quarantine, self._settings.retention
        if self._settings.kind == "embedded":
            return EmbeddedStore(self.history, ledger, quarantine, retention, self._clock)
        from edge_agent.historian.influxdb import InfluxStore

        if self._settings.api == "v2":
            log.info("how long readings are kept is the bucket's setting; no minutes are made with api: v2")
        return InfluxStore(self._settings, ledger, quarantine, self.folder / "minutes.json")

    async def drained(self, timeout: float) -> bool:
        """Wait until everything received is in the store; False where that takes longer than `timeout`."""
        end = asyncio.get_running_loop().time() + timeout
        while self.intake.unacknowledged or self.journal.stats().rows or self.journal.stats().waiting_bytes:
            if asyncio.get_running_loop().time() > end:
                return False
            await self.journal.flush()
            await asyncio.sleep(0.02)
        return True


def _status(state: str, **more: str) -> bytes:
    return json.dumps({"state": state, "role": "historian", **more}, separators=(",", ":")).encode()


def instance_number(state: Path) -> int:
    """The number of this state folder's historian, drawn once: two on one broker do not share a client id.

    Blocks. StoreError where the folder cannot be written.
    """
    path = state / "historian" / "instance"
    try:
        if path.exists() and (text := path.read_text().strip()).isdigit():
            return int(text)
        path.parent.mkdir(parents=True, exist_ok=True)
        number = secrets.randbelow(900_000) + 100_000
        path.write_text(f"{number}\n")
    except OSError as error:
        raise StoreError(f"{path} cannot be read or written: {error}") from error
    return number
