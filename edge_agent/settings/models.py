"""The models of the configuration file (INTERFACE.md, YAML), apart from what each driver adds."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, model_validator

from edge_agent.contracts.settings import MachineSettings, Name, StrictModel
from edge_agent.units import Duration, Size

LEVELS = ("enterprise", "site", "area", "line")


class MqttSettings(StrictModel):
    """Where and how to publish."""

    url: str = "mqtt://127.0.0.1:1883"
    """mqtt://host:port, mqtts://host:port, or `embedded` for a broker inside the agent."""
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    payload: Literal["line", "json", "both"] = "line"
    confirm: Literal["historian", "broker"] | None = None
    """Who must confirm a record before the agent lets go of it; default: historian where there is one."""


class HistorianSettings(StrictModel):
    """Where readings are kept for years."""

    kind: Literal["influxdb", "embedded", "none"] = "embedded"
    where: Literal["inside", "elsewhere"] = "inside"
    url: str = "http://127.0.0.1:8086"
    api: Literal["v1", "v2"] = "v2"
    org: str | None = None
    bucket: str | None = None
    token: SecretStr | None = None
    database: str | None = None
    username: str | None = None
    password: SecretStr | None = None
    timeout: Duration = 10.0


class BufferSettings(StrictModel):
    """The store-and-forward journal."""

    max_size: Size = 2 * 1024**3
    max_age: Duration = 30 * 86_400.0
    commit_interval: Duration = 1.0
    on_full: Literal["drop_oldest", "reject_new"] = "drop_oldest"


class ClockSettings(StrictModel):
    """What to do before the system clock is set."""

    unsynced: Literal["send_flagged", "hold"] = "send_flagged"


class WebSettings(StrictModel):
    """The HTTP side: health, readiness and metrics."""

    listen: str = "127.0.0.1:8420"

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.listen.rpartition(":")
        return host.strip("[]"), int(port)


class Configuration(StrictModel):
    """A whole configuration file, includes and secrets resolved."""

    enterprise: Name | None = None
    site: Name
    area: Name | None = None
    line: Name | None = None
    agent: Name = Field(default_factory=lambda: socket.gethostname() or "agent")
    state: Path | None = None
    mqtt: MqttSettings = MqttSettings()
    historian: HistorianSettings = HistorianSettings()
    buffer: BufferSettings = BufferSettings()
    clock: ClockSettings = ClockSettings()
    web: WebSettings | Literal[False] = WebSettings()
    scan_classes: dict[Name, Duration] = {"fast": 0.25, "normal": 1.0, "slow": 60.0}
    machines: dict[Name, MachineSettings] = {}

    @model_validator(mode="before")
    @classmethod
    def _web_off(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("web") == "off":
            return {**values, "web": False}
        return values

    def levels(self, machine: str | None = None) -> dict[str, str]:
        """The ISA-95 levels that are set, top down; of a machine where it has its own area or line."""
        own = self.machines[machine] if machine is not None else None
        levels: dict[str, str] = {}
        for level in LEVELS:
            value = getattr(own, level, None) or getattr(self, level)
            if value:
                levels[level] = value
        return levels

    def root(self, machine: str | None = None) -> str:
        """ROOT of the topics: the levels that are set, joined with slashes."""
        return "/".join(self.levels(machine).values())

    @property
    def confirm(self) -> Literal["historian", "broker"]:
        """Whose confirmation lets a record leave the agent's journal (DECISIONS 1)."""
        return self.mqtt.confirm or ("broker" if self.historian.kind == "none" else "historian")
