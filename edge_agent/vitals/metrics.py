"""The vitals as Prometheus metrics, made when asked for; the only module that loads prometheus-client."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from edge_agent.vitals.counters import BUCKETS, ScanVitals, Vitals

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_BOUNDS = (*(str(edge) for edge in BUCKETS), "+Inf")


def exposition(vitals: Vitals) -> bytes:
    """The text for /metrics."""
    vitals.look()
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Vitals(vitals))
    return generate_latest(registry)


class _Vitals(Collector):
    def __init__(self, vitals: Vitals) -> None:
        self._vitals = vitals

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        info = {"version": self._vitals.version, "python": platform.python_version()}
        yield InfoMetricFamily("edge_agent_build", "Version of the agent and of Python", value=info)
        yield from self._readings()
        yield from self._scans()
        yield from self._freshness()
        yield from self._buffer()
        yield from self._sinks()
        yield from self._stages()

    def _readings(self) -> Iterator[Metric]:
        readings = CounterMetricFamily(
            "edge_agent_readings", "Values read, by quality", labels=("machine", "quality")
        )
        good = GaugeMetricFamily("edge_agent_tags_good", "Tags with a good value now", labels=("machine",))
        tags = GaugeMetricFamily("edge_agent_tags", "Tags that are read", labels=("machine",))
        up = GaugeMetricFamily("edge_agent_machine_up", "1 while the machine answers", labels=("machine",))
        for name, machine in self._vitals.machines.items():
            readings.add_metric((name, "good"), machine.good)
            readings.add_metric((name, "uncertain"), machine.uncertain)
            readings.add_metric((name, "bad"), machine.bad)
            good.add_metric((name,), machine.good_now)
            tags.add_metric((name,), machine.tags)
            up.add_metric((name,), float(machine.reachable))
        dropped = CounterMetricFamily("edge_agent_dropped", "Readings lost, by reason", labels=("reason",))
        for reason, count in self._vitals.dropped.items():
            dropped.add_metric((reason,), count)
        yield from (readings, good, tags, up, dropped)

    def _scans(self) -> Iterator[Metric]:
        labels = ("machine",)
        scans = CounterMetricFamily("edge_agent_scans", "Scans that succeeded", labels=labels)
        overruns = CounterMetricFamily("edge_agent_scan_overruns", "Scans begun too late", labels=labels)
        failures = CounterMetricFamily("edge_agent_scan_failures", "Scans that failed whole", labels=labels)
        poll = HistogramMetricFamily(
            "edge_agent_poll_duration_seconds", "How long a scan took", labels=labels
        )
        for name, machine in self._vitals.machines.items():
            groups = machine.groups
            scans.add_metric((name,), sum(group.scans for group in groups))
            overruns.add_metric((name,), sum(group.overruns for group in groups))
            failures.add_metric((name,), sum(group.failures for group in groups))
            poll.add_metric((name,), _buckets(groups), sum(group.seconds for group in groups))
        yield from (scans, overruns, failures, poll)

    def _freshness(self) -> Iterator[Metric]:
        age = GaugeMetricFamily(
            "edge_agent_data_age_seconds",
            "Age of the newest reading that has come so far",
            labels=("machine", "stage"),
        )
        for name, machine in self._vitals.machines.items():
            stages = {
                "read": machine.read,
                "committed": machine.committed,
                "acknowledged": machine.acknowledged,
            }
            for stage, ns in stages.items():
                seconds = self._vitals.age(ns)
                if seconds is not None:
                    age.add_metric((name, stage), seconds)
        # Not by tag: thousands of them would be thousands of series. /api/v1/freshness names them.
        oldest = GaugeMetricFamily(
            "edge_agent_oldest_tag_age_seconds",
            "Age of the newest value of the tag that is furthest behind (never: since the start)",
            labels=("machine", "stage"),
        )
        for name, machine in self._vitals.machines.items():
            for stage, seconds in self._vitals.oldest_ages(machine).items():
                oldest.add_metric((name, stage), seconds)
        yield from (age, oldest)

    def _buffer(self) -> Iterator[Metric]:
        if self._vitals.buffer is None:
            return
        level = self._vitals.buffer()
        yield GaugeMetricFamily("edge_agent_buffer_bytes", "Size of the journal", value=level.bytes)
        yield GaugeMetricFamily("edge_agent_buffer_max_bytes", "Its cap", value=level.max_bytes)
        yield GaugeMetricFamily("edge_agent_buffer_rows", "Records not yet delivered", value=level.rows)
        oldest = 0.0 if level.oldest is None else self._vitals.age(level.oldest) or 0.0
        yield GaugeMetricFamily("edge_agent_buffer_oldest_seconds", "Age of the oldest record", value=oldest)

    def _sinks(self) -> Iterator[Metric]:
        labels = ("sink",)
        up = GaugeMetricFamily("edge_agent_sink_up", "1 while the sink takes records", labels=labels)
        took = CounterMetricFamily("edge_agent_sink_records", "Records the sink confirmed", labels=labels)
        refused = CounterMetricFamily("edge_agent_sink_rejected", "Records it will never take", labels=labels)
        failures = CounterMetricFamily("edge_agent_sink_failures", "Deliveries that failed", labels=labels)
        for name, sink in self._vitals.sinks.items():
            up.add_metric((name,), float(sink.up))
            took.add_metric((name,), sink.delivered)
            refused.add_metric((name,), sink.rejected)
            failures.add_metric((name,), sink.failures)
        yield from (up, took, refused, failures)

    def _stages(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("edge_agent_queue_depth", "Entries waiting in a queue", labels=("queue",))
        for name, ask in self._vitals.queues.items():
            depth.add_metric((name,), ask())
        late = GaugeMetricFamily(
            "edge_agent_stages_late",
            "Stages that neither move nor try on schedule",
            value=len(self._vitals.watchdog.late()),
        )
        yield from (depth, late)


def _buckets(groups: list[ScanVitals]) -> list[tuple[str, float]]:
    counts = [sum(column) for column in zip(*(group.durations for group in groups), strict=True)]
    return list(zip(_BOUNDS, accumulate(counts or [0] * len(_BOUNDS)), strict=True))
