"""Recorded files served through Modbus."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import pytest

from edge_agent.errors import ConfigError
from edge_agent_simulators.replay import ReplayFeed


def write(folder: Path, text: str, name: str = "run.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def shown(feed: ReplayFeed) -> tuple[float, ...]:
    raw = feed.images[1].words("holding", 0, 2 * len(feed.columns))
    assert raw is not None
    return struct.unpack(f">{len(feed.columns)}f", raw)


CSV = """\
time;flow;note;pressure
2026-01-01 00:00:00;1.5;a;10
2026-01-01 00:00:10;;b;11
2026-01-01 00:00:15;2,5;;12
"""


def test_rows_follow_the_time_column_and_the_last_is_held(tmp_path: Path) -> None:
    """Rows switch at their own times, an empty cell is NaN, and after the end the last row stays."""
    feed = ReplayFeed(write(tmp_path, CSV), time_column="time")
    assert feed.columns == ["flow", "pressure"]
    assert feed.left_out == ["note"]
    assert shown(feed) == (1.5, 10.0)
    feed.refresh(9.99)
    assert shown(feed) == (1.5, 10.0)
    feed.refresh(10.0)
    assert math.isnan(shown(feed)[0])
    assert shown(feed)[1] == 11.0
    feed.refresh(1e6)
    assert shown(feed) == (2.5, 12.0)
    assert feed.instant() == 15.0


def test_without_time_column_a_row_a_second(tmp_path: Path) -> None:
    """Without a time column there is a row a second, and text columns (the time too) are left out."""
    feed = ReplayFeed(write(tmp_path, CSV))
    assert feed.left_out == ["time", "note"]
    feed.refresh(1.0)
    assert shown(feed)[1] == 11.0


def test_loops(tmp_path: Path) -> None:
    """With loop the file begins again one row's pause after its end."""
    feed = ReplayFeed(write(tmp_path, "a,b\n1,1\n2,2\n3,3\n"), loop=True)
    seen = []
    for second in range(7):
        feed.refresh(float(second))
        seen.append(shown(feed)[0])
    assert seen == [1, 2, 3, 1, 2, 3, 1]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_finds_the_separator_and_reads_gzip(tmp_path: Path, separator: str) -> None:
    """Comma, semicolon and tab are found by themselves, compressed or not."""
    text = separator.join(("a", "b")) + "\n" + separator.join(("1", "2")) + "\n"
    packed = tmp_path / "run.csv.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert shown(ReplayFeed(write(tmp_path, text))) == (1.0, 2.0)
    assert shown(ReplayFeed(packed)) == (1.0, 2.0)


def test_columns_are_chosen_in_the_order_asked(tmp_path: Path) -> None:
    """--columns selects and orders; the YAML numbers the registers alike."""
    feed = ReplayFeed(write(tmp_path, "a,b,c\n1,2,3\n"), columns=["c", "a"])
    assert shown(feed) == (3.0, 1.0)
    (machine,) = feed.machines("tcp://127.0.0.1:1", None).values()
    assert machine["tags"] == {
        "c": {"address": "holding:0", "type": "float32"},
        "a": {"address": "holding:2", "type": "float32"},
    }


def test_tag_names_are_legal_and_unique(tmp_path: Path) -> None:
    """Columns become legal, unreserved, unique tag names, and keep their own as label."""
    path = write(tmp_path, "Volume Flow [l/min],machine,a b,a_b\n1,2,3,4\n", "my file.csv")
    ((name, machine),) = ReplayFeed(path).machines("tcp://x:1", None).items()
    assert name == "my-file"
    assert list(machine["tags"]) == ["Volume_Flow_l_min", "machine_1", "a_b", "a_b_2"]
    assert machine["tags"]["a_b"]["label"] == "a b"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n", {"time_column": "t"}, "no column 't'; it has: a, b"),
        ("a,b\n1,2\n", {"columns": ["x"]}, "no column 'x'; it has: a, b"),
        ("a,b\nx,y\n", {}, "no column of numbers"),
        ("a,b\n", {}, "at least one row"),
        ("t,b\nyesterday,2\n", {"time_column": "t"}, "'yesterday'"),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, text: str, options: dict[str, object], message: str) -> None:
    """A missing column is named with those there are; other problems are said as well."""
    with pytest.raises(ConfigError, match=message.replace("'", ".")):
        ReplayFeed(write(tmp_path, text), **options)  # type: ignore[arg-type]


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """A file that is not there is a configuration error."""
    with pytest.raises(ConfigError, match="cannot be read"):
        ReplayFeed(tmp_path / "none.csv")


def test_too_large_for_float32_is_infinite(tmp_path: Path) -> None:
    """A number beyond float32 does not stop the replay."""
    assert shown(ReplayFeed(write(tmp_path, "a,b\n1e300,-1e300\n"))) == (math.inf, -math.inf)
