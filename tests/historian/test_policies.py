"""Retention and minutes in a real InfluxDB 1.6.7."""

from __future__ import annotations

import contextlib
import logging
import random
import signal
import statistics
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.clock import SECOND
from edge_agent.errors import SinkUnavailable
from edge_agent.historian.history import MINUTE
from edge_agent.historian.influxdb import InfluxStore
from edge_agent.historian.policies import _runs
from tests.historian.test_influxdb import record, store
from tests.support.influx import Influxd

START = time.time_ns() // MINUTE * MINUTE - 600 * MINUTE
HEAD = b"readings,site=s,machine=pump-1"
Figures = tuple[int, float, float, float, int]


def minutes(influxd: Influxd, database: str, field: str = "a") -> list[Figures]:
    """Minute, mean, lowest, highest, count."""
    columns = ", ".join(f'"{what}_{field}"' for what in ("mean", "min", "max", "count"))
    series = influxd.query(f'SELECT {columns} FROM "minute"."readings"', database)  # noqa: S608
    return [((ns - START) // MINUTE, *row) for ns, *row in series[0]["values"]] if series else []


def policies(influxd: Influxd, database: str) -> dict[str, tuple[str, bool]]:
    (series,) = influxd.query(f'SHOW RETENTION POLICIES ON "{database}"', database)
    return {row[0]: (row[1], row[4]) for row in series["values"]}


async def made(influx: InfluxStore) -> None:
    """What has been written is at rest."""
    await influx.tidy()
    await influx.tidy()


@contextlib.asynccontextmanager
async def v1(folder: Path, influxd: Influxd, database: str, **retention: str) -> AsyncIterator[InfluxStore]:
    more: dict[str, Any] = {"retention": retention} if retention else {}
    async with store(folder, url=influxd.url, database=database, **more) as (influx, aside):
        yield influx
        assert aside == []


async def test_minutes_are_what_the_readings_say(influxd: Influxd, tmp_path: Path) -> None:
    """Mean, lowest, highest and count by minute and machine; the policies are 90 days and two years."""
    random.seed(5)
    readings = [(START + n * 7 * SECOND, random.gauss(50, 9)) for n in range(2000)]
    lines = [HEAD + b' a=%r,n=%di,mode="x",b=true %d' % (a, n, ns) for n, (ns, a) in enumerate(readings)]
    other = [b"readings,site=s,machine=fan a=1 %d" % START]
    async with v1(tmp_path, influxd, "minutes") as influx:
        await influx.deliver([record(1, *lines, *other)], backlog=False)
        await made(influx)
    assert policies(influxd, "minutes") == {"raw": ("2160h0m0s", True), "minute": ("17520h0m0s", False)}
    series = influxd.query('SELECT mean_a FROM "minute"."readings" GROUP BY machine', "minutes")
    assert [one["tags"]["machine"] for one in series] == ["fan", "pump-1"]
    influxd.ask("DROP SERIES FROM readings WHERE machine = 'fan'", db="minutes")
    found = minutes(influxd, "minutes")
    assert [one[0] for one in found] == sorted({(ns - START) // MINUTE for ns, _ in readings})
    for place, mean, low, high, count in found:
        values = [a for ns, a in readings if (ns - START) // MINUTE == place]
        assert (low, high, count) == (min(values), max(values), len(values))
        assert mean == pytest.approx(statistics.fmean(values))
    assert len(minutes(influxd, "minutes", "n")) == len(found)


async def test_late_readings_and_repeats(influxd: Influxd, tmp_path: Path) -> None:
    """A backlog makes its minutes anew; sent twice, and made twice, changes nothing."""
    async with v1(tmp_path, influxd, "late") as influx:
        await influx.deliver([record(1, HEAD + b" a=1 %d" % START)], backlog=False)
        await made(influx)
        for _ in range(2):
            late = [HEAD + b" a=3 %d" % (START + 5), HEAD + b" a=7 %d" % (START - 30 * MINUTE)]
            await influx.deliver([record(2, *late)], backlog=True)
            await made(influx)
    assert minutes(influxd, "late") == [(-30, 7, 7, 7, 1), (0, 2, 1, 3, 2)]


async def test_a_minute_is_made_once_it_is_at_rest(influxd: Influxd, tmp_path: Path) -> None:
    """Not while it is being written: that costs one question a minute, and two historians do not collide."""
    async with v1(tmp_path, influxd, "rest") as influx:
        for n in range(5):
            await influx.deliver([record(n, HEAD + b" a=%d %d" % (n, START + n))], backlog=False)
            await influx.tidy()
            assert len(minutes(influxd, "rest")) == (n > 0)
        await influx.tidy()
    assert minutes(influxd, "rest") == [(0, 2, 0, 4, 5)]


async def test_a_crash_loses_no_minute(tmp_path: Path) -> None:
    """Noted before it is written: a historian that is killed, or a database, and the minutes come later."""
    influxd = Influxd(tmp_path / "influxd")
    influxd.start()
    try:
        async with v1(tmp_path, influxd, "crash") as influx:
            await influx.deliver([record(1, HEAD + b" a=1 %d" % START)], backlog=False)
        async with v1(tmp_path, influxd, "crash") as influx:
            await influx.deliver([record(2, HEAD + b" a=5 %d" % (START + MINUTE))], backlog=False)
            influxd.stop(signal.SIGKILL)
            for _ in range(3):
                with pytest.raises(SinkUnavailable, match="does not answer"):
                    await influx.tidy()
            with pytest.raises(SinkUnavailable):
                await influx.deliver([record(3, HEAD + b" a=9 %d" % (START + 2 * MINUTE))], backlog=False)
            influxd.start()
            await influx.deliver([record(3, HEAD + b" a=9 %d" % (START + 2 * MINUTE))], backlog=False)
            await made(influx)
        assert [(place, mean) for place, mean, *_ in minutes(influxd, "crash")] == [(0, 1), (1, 5), (2, 9)]
    finally:
        influxd.stop()


async def test_two_historians_make_the_same_minutes(influxd: Influxd, tmp_path: Path) -> None:
    """Each has part of a minute's readings; the minute is of all of them."""
    async with v1(tmp_path / "1", influxd, "both") as one, v1(tmp_path / "2", influxd, "both") as two:
        for n in range(60):
            line = HEAD + b" a=%d %d" % (n, START + n * SECOND)
            await (one, two)[n % 2].deliver([record(n, line)], backlog=False)
        await made(one)
        await made(two)
    assert minutes(influxd, "both") == [(0, 29.5, 0, 59, 60)]


async def test_alarms_are_kept_as_they_came(influxd: Influxd, tmp_path: Path) -> None:
    """Alarms and quality are copied, texts and all."""
    alarm = b'alarms,machine=pump-1,alarm=x.high state="raised",value=4.5,raised_at=5i %d' % (START + 7)
    async with v1(tmp_path, influxd, "alarms") as influx:
        await influx.deliver([record(1, alarm)], backlog=False)
        await made(influx)
    (series,) = influxd.query('SELECT * FROM "minute"."alarms" GROUP BY *', "alarms")
    assert series["tags"] == {"machine": "pump-1", "alarm": "x.high"}
    assert dict(zip(series["columns"], series["values"][0], strict=True)) == {
        "time": START + 7,
        "state": "raised",
        "value": 4.5,
        "raised_at": 5,
    }


async def test_a_length_that_is_changed(influxd: Influxd, tmp_path: Path) -> None:
    """The policies follow the configuration, once no minute of what would go is due."""
    async with v1(tmp_path, influxd, "length") as influx:
        await influx.deliver([record(1, HEAD + b" a=1 %d" % START)], backlog=False)
        await influx.tidy()
    async with v1(tmp_path, influxd, "length", raw="1d", minute="5d") as influx:
        old = HEAD + b" a=2 %d" % (time.time_ns() - 20 * 86_400 * SECOND)
        await influx.deliver([record(1, old)], backlog=True)
        await influx.tidy()
        assert policies(influxd, "length")["raw"] == ("2160h0m0s", True)
        await influx.tidy()
        assert policies(influxd, "length") == {"raw": ("24h0m0s", True), "minute": ("120h0m0s", False)}
    async with v1(tmp_path, influxd, "length", raw="forever", minute="forever") as influx:
        await made(influx)
    assert policies(influxd, "length") == {"raw": ("0s", True), "minute": ("0s", False)}


async def test_a_database_that_was_there_is_not_shortened(
    influxd: Influxd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody's years are not deleted by an update: it says so once, and makes minutes."""
    influxd.create("theirs")
    caplog.set_level(logging.WARNING)
    async with v1(tmp_path, influxd, "theirs") as influx:
        await influx.deliver([record(1, HEAD + b" a=1 %d" % START)], backlog=False)
        await made(influx)
        await made(influx)
    assert policies(influxd, "theirs") == {"autogen": ("0s", True), "minute": ("17520h0m0s", False)}
    assert caplog.text.count("kept for ever by its policy") == 1
    assert minutes(influxd, "theirs") == [(0, 1, 1, 1, 1)]


async def test_names_that_need_quotes(influxd: Influxd, tmp_path: Path) -> None:
    """Databases, measurements and fields may be called anything."""
    database = 'my "own" db'
    line = b'my\\ odd\\,"one",machine=m a\\ b=1 %d' % START
    async with v1(tmp_path, influxd, database) as influx:
        await influx.deliver([record(1, line)], backlog=False)
        await made(influx)
    (series,) = influxd.query('SELECT * FROM "minute"."my odd,\\"one\\""', database)
    assert dict(zip(series["columns"], series["values"][0], strict=True))["mean_a b"] == 1


async def test_a_user_that_may_not_make_policies(tmp_path: Path) -> None:
    """It says so; readings are stored, and the minutes are made once it may."""
    influxd = Influxd(tmp_path / "influxd", extra="auth-enabled = true")
    influxd.start()
    admin = {"u": "admin", "p": "right"}
    try:
        for question in (
            "CREATE USER admin WITH PASSWORD 'right' WITH ALL PRIVILEGES",
            "CREATE DATABASE plant",
            "CREATE USER writer WITH PASSWORD 'w'",
            "GRANT ALL ON plant TO writer",
        ):
            influxd.ask(question, **admin)
        settings = {"url": influxd.url, "database": "plant", "username": "writer", "password": "w"}
        async with store(tmp_path, **settings) as (influx, aside):
            await influx.deliver([record(1, HEAD + b" a=1 %d" % START)], backlog=False)
            with pytest.raises(SinkUnavailable, match=r"privilege|not authorized"):
                await influx.tidy()
            influxd.ask("GRANT ALL PRIVILEGES TO writer", **admin)
            await made(influx)
            assert aside == []
        columns = influxd.get("/query", q='SELECT * FROM "minute"."readings"', db="plant", **admin)
        assert b"mean_a" in columns
    finally:
        influxd.stop()


async def test_the_note_that_is_damaged(
    influxd: Influxd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set aside and said; what comes goes on."""
    (tmp_path / "minutes.json").write_text("[1, 2")
    async with v1(tmp_path, influxd, "note") as influx:
        await influx.deliver([record(1, HEAD + b" a=1 %d" % START)], backlog=False)
        await made(influx)
    assert "minutes.json.damaged" in caplog.text
    assert minutes(influxd, "note") == [(0, 1, 1, 1, 1)]


def test_runs() -> None:
    """Minutes without a gap go together, up to an hour."""
    assert list(_runs([])) == []
    assert list(_runs([5])) == [(5, 6)]
    assert list(_runs([3, 1, 2, 7, -1])) == [(-1, 0), (1, 4), (7, 8)]
    assert list(_runs(range(130))) == [(0, 60), (60, 120), (120, 130)]
