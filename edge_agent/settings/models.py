"""The models of the configuration file (INTERFACE.md, YAML), apart from what each driver adds."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from edge_agent.contracts.settings import MachineSettings, Name, StrictModel
from edge_agent.settings.urls import broker_url, http_url, listen_address, split_address
from edge_agent.units import Duration, Period, Size

LEVELS = ("enterprise", "site", "area", "line")
SCAN_CLASSES: dict[str, float] = {"fast": 0.25, "normal": 1.0, "slow": 60.0}
"""Scan classes that exist without being defined."""


class MqttSettings(StrictModel):
    """Where and how to publish."""

    url: Annotated[str, AfterValidator(broker_url)] = "mqtt://127.0.0.1:1883"
    """mqtt://host:port, mqtts://host:port, or `embedded` for a broker inside the agent."""
    username: str | None = None
    """Who the agent logs in as; default: nobody."""
    password: SecretStr | None = None
    """Best written !secret NAME."""
    ca_file: Path | None = None
    """With mqtts: the authority that signed the broker's certificate; default: the system's."""
    cert_file: Path | None = None
    """With mqtts: the agent's own certificate, where the broker asks for one."""
    key_file: Path | None = None
    """The key of `cert_file`."""
    payload: Literal["line", "json", "both"] = "line"
    """line: line protocol; json: a retained message per tag, on change and every max_interval; both."""
    confirm: Literal["historian", "broker"] | None = None
    """Who must confirm a record before the agent lets go of it; default: historian where there is one."""


class RetentionSettings(StrictModel):
    """How long the historian keeps what it stores."""

    raw: Period = 90 * 86_400.0
    """Every reading; 90d, or forever."""
    minute: Period = 730 * 86_400.0
    """Mean, lowest, highest and count of each minute, and alarms and quality as they came; 2y, or forever."""

    @model_validator(mode="after")
    def _ordered(self) -> RetentionSettings:
        shortest = 86_400.0
        for name in ("raw", "minute"):
            length = getattr(self, name)
            if length is not None and length < shortest:
                raise ValueError(f"{name} must be at least 1d")
        if self.minute is not None and (self.raw is None or self.raw > self.minute):
            raise ValueError("raw must not be longer than minute; shorten it, or write `minute: forever`")
        return self


class HistorianSettings(StrictModel):
    """Where readings are kept for years."""

    kind: Literal["influxdb", "embedded", "none"] = "embedded"
    """influxdb, embedded (a file on the Pi), or none."""
    where: Literal["inside", "elsewhere"] = "inside"
    """inside: `run` runs the historian too; elsewhere: another host does."""
    url: Annotated[str, AfterValidator(http_url)] = "http://127.0.0.1:8086"
    """Where InfluxDB listens."""
    api: Literal["v1", "v2"] = "v2"
    """v2: InfluxDB 2, 3, 1.8 and VictoriaMetrics; v1: InfluxDB 1.x as Debian packages it."""
    org: str | None = None
    """v2: the organisation."""
    bucket: str | None = None
    """v2: the bucket that readings go into."""
    token: SecretStr | None = None
    """v2: best written !secret NAME."""
    database: str | None = None
    """v1: the database that readings go into."""
    username: str | None = None
    """v1: who the historian logs in as."""
    password: SecretStr | None = None
    """v1: best written !secret NAME."""
    timeout: Duration = Field(default=10.0, gt=0)
    """How long to wait for InfluxDB's answer."""
    retention: RetentionSettings = RetentionSettings()
    """How long readings and their minutes are kept; not with `api: v2`."""


class BufferSettings(StrictModel):
    """The store-and-forward journal."""

    max_size: Size = Field(default=2 * 1024**3, ge=64 * 1024)
    """Most that the journal takes on disk."""
    max_age: Duration = Field(default=30 * 86_400.0, gt=0)
    """Oldest readings that are kept for a broker that is away."""
    commit_interval: Duration = Field(default=1.0, gt=0)
    """Time between commits, which is what a power cut may cost."""
    backlog_rate: Size | None = Field(default=None, ge=1024)
    """Most bytes of old readings sent in a second after an outage; default: as fast as they are taken."""
    on_full: Literal["drop_oldest", "reject_new"] = "drop_oldest"
    """What gives way where the journal is full: the oldest readings, or new ones."""


class ClockSettings(StrictModel):
    """What to do before the system clock is set."""

    unsynced: Literal["send_flagged", "hold"] = "send_flagged"
    """send_flagged: at once, as uncertain; hold: nothing leaves before the clock is set."""


class WebSettings(StrictModel):
    """The HTTP side: health, readiness and metrics."""

    listen: Annotated[str, AfterValidator(listen_address)] = "127.0.0.1:8420"
    """host:port; beyond this host only with users."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return split_address(self.listen)


class Configuration(StrictModel):
    """A whole configuration file, includes and secrets resolved."""

    enterprise: Name | None = None
    """The company: the topmost level of topics and of InfluxDB tags."""
    site: Name
    """The plant's name; machine names are unique in it."""
    area: Name | None = None
    """Part of the plant; a machine may have its own."""
    line: Name | None = None
    """Production line; a machine may have its own."""
    agent: Name = Field(default_factory=lambda: socket.gethostname() or "agent")
    """This agent's name; default: the host's."""
    state: Path | None = None
    """Folder of journal, models and alarms; default: $STATE_DIRECTORY, else ./edge-agent-state."""
    mqtt: MqttSettings = MqttSettings()
    historian: HistorianSettings = HistorianSettings()
    buffer: BufferSettings = BufferSettings()
    clock: ClockSettings = ClockSettings()
    web: WebSettings | Literal[False] = WebSettings()
    scan_classes: dict[Name, Annotated[Duration, Field(gt=0)]] = SCAN_CLASSES
    """Names for scan rates; fast, normal and slow exist also where they are not defined."""
    include: list[str] = []
    """Files to read as well, relative to this one; `*` stands for any name."""
    machines: dict[Name, MachineSettings] = {}
    """The machines by name."""

    @model_validator(mode="before")
    @classmethod
    def _web_off(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("web") == "off":
            return {**values, "web": False}
        return values

    @field_validator("scan_classes")
    @classmethod
    def _with_defaults(cls, classes: dict[str, float]) -> dict[str, float]:
        return {**SCAN_CLASSES, **classes}

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
