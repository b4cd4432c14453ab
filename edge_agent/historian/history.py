"""The embedded time series file and its questions; read-only, from any thread or process.

A line is one row: its tags and its field names are a *shape*, stored once; the row holds the shape, the time
and the values packed one after the other. So a scan of a hundred tags costs one small insert, and an SD card
lives; the price is that reading one tag reads its neighbours.
"""

from __future__ import annotations

import json
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from edge_agent.clock import SECOND
from edge_agent.errors import StoreError
from edge_agent.lineprotocol import Point
from edge_agent.types import Value

APPLICATION_ID = 0x45414848  # "EAHH"
VERSION = 2
"""1 had no minutes."""
SCHEMA = """
CREATE TABLE shapes(
  id INTEGER PRIMARY KEY, measurement TEXT NOT NULL, machine TEXT NOT NULL, tags TEXT NOT NULL,
  fields TEXT NOT NULL, UNIQUE(measurement, machine, tags, fields));
CREATE TABLE points(
  shape INTEGER NOT NULL, ns INTEGER NOT NULL, numbers BLOB NOT NULL, texts TEXT,
  PRIMARY KEY(shape, ns)) WITHOUT ROWID;
"""
SCHEMA_MINUTES = """
CREATE TABLE minutes(
  shape INTEGER NOT NULL, minute INTEGER NOT NULL, count INTEGER NOT NULL, figures BLOB NOT NULL,
  PRIMARY KEY(shape, minute)) WITHOUT ROWID;
CREATE TABLE changed(
  minute INTEGER NOT NULL, shape INTEGER NOT NULL, PRIMARY KEY(minute, shape)) WITHOUT ROWID;
CREATE TABLE facts(name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
"""
"""`minute` counts minutes since 1970; `figures` are mean, lowest and highest of each number of the shape."""
MINUTE = 60 * SECOND

_CODES = {float: "d", int: "q", bool: "?", str: "s"}
_FOREVER = (-(2**63), 2**63 - 1)


@dataclass(frozen=True, slots=True)
class Shape:
    """What the lines of one kind have in common: `codes[i]` (d, q, ? or s) is the type of `names[i]`."""

    measurement: str
    machine: str
    tags: tuple[tuple[str, str], ...]
    names: tuple[str, ...]
    codes: str

    @property
    def layout(self) -> struct.Struct:
        """How the numbers of a row are packed."""
        return struct.Struct("<" + self.codes.replace("s", ""))

    @property
    def numbers(self) -> tuple[int, ...]:
        """The places of the fields that have a mean: no texts and no `store: bool`."""
        return tuple(place for place, code in enumerate(self.codes) if code in "dq")


def shape_of(point: Point) -> Shape:
    """The shape of a parsed line."""
    codes = "".join(_CODES[type(value)] for value in point.fields.values())
    tags = tuple(sorted(point.tags.items()))
    return Shape(point.measurement, point.tags.get("machine", ""), tags, tuple(point.fields), codes)


def unpack(shape: Shape, layout: struct.Struct, numbers: bytes, texts: str | None) -> list[Value]:
    """The values of a row, in the order of the shape's names."""
    values = iter(layout.unpack(numbers))
    strings = iter(json.loads(texts) if texts else ())
    return [next(strings) if code == "s" else next(values) for code in shape.codes]


@dataclass(frozen=True, slots=True)
class Minute:
    """A field's readings of one minute."""

    ns: int
    """When it began, UTC."""
    mean: float
    low: float
    high: float
    count: int


class History:
    """Answers from `history.db`; a context manager. Times are UTC in ns; ranges exclude their stop."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise StoreError(f"{path} is not there yet: nothing has been stored")
        self._sql = sqlite3.connect(f"file:{path}?mode=ro", uri=True, check_same_thread=False)
        self._shapes: dict[int, Shape] = {}

    def close(self) -> None:
        """Close the file."""
        self._sql.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def machines(self) -> list[str]:
        """The machines that have readings."""
        return sorted({shape.machine for _, shape in self._matching("readings", None)})

    def fields(self, machine: str, measurement: str = "readings") -> list[str]:
        """The fields of a machine."""
        return sorted({name for _, shape in self._matching(measurement, machine) for name in shape.names})

    def measurements(self) -> list[str]:
        """The measurements that have points: readings, alarms, quality, health, and others of machines."""
        return sorted({name for (name,) in self._sql.execute("SELECT measurement FROM shapes")})

    def count(
        self, machine: str | None = None, field: str | None = None, measurement: str = "readings"
    ) -> int:
        """How many values are stored (a line of three fields counts three)."""
        total = 0
        for number, shape in self._matching(measurement, machine):
            columns = len(shape.names) if field is None else shape.names.count(field)
            if columns:
                query = "SELECT count(*) FROM points WHERE shape = ?"
                total += columns * int(self._sql.execute(query, (number,)).fetchone()[0])
        return total

    def latest(self, machine: str, measurement: str = "readings") -> dict[str, tuple[int, Value]]:
        """Each field's newest time and value."""
        newest: dict[str, tuple[int, Value]] = {}
        for number, shape in self._matching(measurement, machine):
            query = "SELECT ns, numbers, texts FROM points WHERE shape = ? ORDER BY ns DESC LIMIT 1"
            for ns, numbers, texts in self._sql.execute(query, (number,)):
                for name, value in zip(shape.names, unpack(shape, shape.layout, numbers, texts), strict=True):
                    if name not in newest or newest[name][0] < ns:
                        newest[name] = (ns, value)
        return newest

    def range(
        self,
        machine: str,
        field: str,
        start: int = _FOREVER[0],
        stop: int = _FOREVER[1],
        measurement: str = "readings",
    ) -> list[tuple[int, Value]]:
        """A field's times and values in order of time."""
        found: dict[int, Value] = {}
        for number, shape in self._matching(measurement, machine):
            if field not in shape.names:
                continue
            column, layout = shape.names.index(field), shape.layout
            for ns, numbers, texts in self._rows(number, start, stop):
                found[ns] = unpack(shape, layout, numbers, texts)[column]
        return sorted(found.items())

    def minutes(
        self,
        machine: str,
        field: str,
        start: int = _FOREVER[0],
        stop: int = _FOREVER[1],
        measurement: str = "readings",
    ) -> list[Minute]:
        """A field's minutes that began in the range, in order of time; made a minute after they came."""
        found: dict[int, Minute] = {}
        query = "SELECT minute, count, figures FROM minutes WHERE shape = ? AND minute >= ? AND minute < ?"
        for number, shape in self._matching(measurement, machine):
            names = [shape.names[place] for place in shape.numbers]
            if field not in names:
                continue
            place = 24 * names.index(field)
            for minute, count, figures in self._sql.execute(
                query, (number, -(-start // MINUTE), -(-stop // MINUTE))
            ):
                mean, low, high = struct.unpack_from("<3d", figures, place)
                one = Minute(minute * MINUTE, mean, low, high, count)
                found[minute] = _together(found[minute], one) if minute in found else one
        return [one for _, one in sorted(found.items())]

    def points(
        self,
        measurement: str = "readings",
        machine: str | None = None,
        start: int = _FOREVER[0],
        stop: int = _FOREVER[1],
    ) -> Iterator[Point]:
        """Every stored line, shape by shape, each in order of time; alarms, quality and health alike."""
        for number, shape in self._matching(measurement, machine):
            layout = shape.layout
            for ns, numbers, texts in self._rows(number, start, stop):
                values = unpack(shape, layout, numbers, texts)
                yield Point(measurement, dict(shape.tags), dict(zip(shape.names, values, strict=True)), ns)

    def identities(self, machine: str, measurement: str = "readings") -> Iterator[tuple[str, int]]:
        """(field, ns) of every stored value of a machine."""
        for number, shape in self._matching(measurement, machine):
            for (ns,) in self._sql.execute("SELECT ns FROM points WHERE shape = ?", (number,)):
                for name in shape.names:
                    yield name, ns

    def _rows(self, number: int, start: int, stop: int) -> sqlite3.Cursor:
        query = "SELECT ns, numbers, texts FROM points WHERE shape = ? AND ns >= ? AND ns < ? ORDER BY ns"
        return self._sql.execute(query, (number, start, stop))

    def _matching(self, measurement: str, machine: str | None) -> Sequence[tuple[int, Shape]]:
        known = max(self._shapes, default=0)
        query = "SELECT id, measurement, machine, tags, fields FROM shapes WHERE id > ?"
        for number, name, owner, tags, fields in self._sql.execute(query, (known,)):
            self._shapes[number] = load_shape(name, owner, tags, fields)
        return [
            (number, shape)
            for number, shape in self._shapes.items()
            if shape.measurement == measurement and (machine is None or shape.machine == machine)
        ]


def _together(one: Minute, other: Minute) -> Minute:
    """The minute of a field that came in lines of two shapes."""
    count = one.count + other.count
    mean = one.mean * (one.count / count) + other.mean * (other.count / count)
    return Minute(one.ns, mean, min(one.low, other.low), max(one.high, other.high), count)


def load_shape(measurement: str, machine: str, tags: str, fields: str) -> Shape:
    """A shape from its row."""
    names, codes = json.loads(fields)
    return Shape(measurement, machine, tuple((k, v) for k, v in json.loads(tags)), tuple(names), codes)


def dump_shape(shape: Shape) -> tuple[str, str, str, str]:
    """A shape as its row: measurement, machine, tags, fields."""
    return (
        shape.measurement,
        shape.machine,
        json.dumps(shape.tags),
        json.dumps([shape.names, shape.codes]),
    )
