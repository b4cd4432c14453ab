"""Recorded files as people have them: separators, decimal commas, packed, damaged; times in many writings."""

from __future__ import annotations

import gzip
import math
from pathlib import Path

import numpy as np
import pytest

from edge_agent.backtest.recording import Learn, Reading, Recording, read_recording
from edge_agent.backtest.table import BadRecording, numbers, read_table
from edge_agent.clock import SECOND, parse_iso


def write(folder: Path, text: str | bytes, name: str = "run.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def recorded(folder: Path, text: str, **reading: object) -> Recording:
    return read_recording(write(folder, text), Reading(**reading))  # type: ignore[arg-type]


@pytest.mark.parametrize("separator", [";", ",", "\t", "|", " "])
def test_the_separator_is_found(tmp_path: Path, separator: str) -> None:
    """Whatever cuts the lines into the most columns is the separator."""
    lines = [("t", "Flow", "Pressure"), ("1", "3.5", "7"), ("2", "3.6", "")]
    table = read_table(write(tmp_path, "\n".join(separator.join(line) for line in lines)))
    assert list(table.columns) == ["t", "Flow", "Pressure"]
    assert numbers(table).values["Flow"].tolist() == [3.5, 3.6]
    assert math.isnan(numbers(table).values["Pressure"][1])


def test_spaces_in_names_do_not_separate(tmp_path: Path) -> None:
    """`Volume Flow RateRMS` is one column."""
    table = read_table(write(tmp_path, "a;Volume Flow RateRMS\n1;2\n"))
    assert list(table.columns) == ["a", "Volume Flow RateRMS"]


def test_decimal_commas_are_numbers(tmp_path: Path) -> None:
    """As a Norwegian or German spreadsheet saves them, a byte order mark and a cp1252 sign too."""
    table = read_table(write(tmp_path, "t;Temperatur °C\n1;21,5\n2;22\n".encode("cp1252")))
    assert numbers(table).values["Temperatur °C"].tolist() == [21.5, 22.0]
    table = read_table(write(tmp_path, "\ufeffa;b\n1,5;2\n".encode()))
    assert numbers(table).values["a"].tolist() == [1.5]


def test_text_is_named_and_never_a_number(tmp_path: Path) -> None:
    """A text column is left out, a few bad cells are missing samples, true and false are 1 and 0."""
    found = numbers(read_table(write(tmp_path, "product,x,on,nothing\nA,1,true,\nB,Bad,false,\nC,3,true,\n")))
    assert list(found.values) == ["x", "on"]
    assert math.isnan(found.values["x"][1])
    assert found.values["on"].tolist() == [1.0, 0.0, 1.0]
    said = "; ".join(found.notes)
    assert "they hold text: product" in said
    assert "empty: nothing" in said
    assert "'Bad' in line 3" in said


def test_a_packed_file_is_read(tmp_path: Path) -> None:
    """By its content, not by its name."""
    assert read_table(write(tmp_path, gzip.compress(b"a,b\n1,2\n"))).rows == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"\n\n", "empty"),
        (b"a,b\n", "no rows"),
        (b"1,2\n3,4\n", "header"),
        (b"a,a\n1,2\n", "same name: a"),
        (b"a,b\n1,2\n1,2,3\n", ":3: 3 cells"),
        (b"\x00\x01\x02", "no text file"),
        (gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:24], "damaged"),
    ],
)
def test_what_is_no_table_is_said(tmp_path: Path, content: bytes, said: str) -> None:
    """Where, what, and what is needed instead."""
    with pytest.raises(BadRecording, match=said):
        read_table(write(tmp_path, content))


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(BadRecording, match="No such file"):
        read_table(tmp_path / "away.csv")


@pytest.mark.parametrize(
    ("first", "second", "seconds"),
    [
        ("2020-03-09 10:14:33", "2020-03-09T10:14:34Z", 1),
        ("2020-03-09 10:14:33+01:00", "2020-03-09 10:14:33Z", 3600),
        ("13.02.2004 10:32", "13.02.2004 10:42", 600),
        ("02/13/2004 10:32", "02/13/2004 10:42", 600),
        ("5", "7.5", 2.5),
        ("1583748873", "1583748875", 2),
        ("1583748873000", "1583748875000", 2),
    ],
)
def test_times_are_read_as_they_are_written(tmp_path: Path, first: str, second: str, seconds: float) -> None:
    """ISO with and without a zone, unambiguous local writings, seconds, and epochs in s or ms."""
    recording = recorded(tmp_path, f"timestamp;x\n{first};1\n{second};2\n")
    assert np.diff(recording.times).tolist() == [round(seconds * SECOND)]
    assert recording.stamps == [first, second]


def test_days_and_months_are_not_guessed(tmp_path: Path) -> None:
    """02-03 is February or March: it is asked for."""
    text = "time;x\n02-03-2004 10:32;1\n02-03-2004 10:42;2\n"
    with pytest.raises(BadRecording, match="--time-format"):
        recorded(tmp_path, text)
    found = recorded(tmp_path, text, time_format="%d-%m-%Y %H:%M")
    assert found.times[0] == parse_iso("2004-03-02T10:32:00Z")


def test_the_time_column_is_found_by_what_is_in_it(tmp_path: Path) -> None:
    """Where no name says so; eight digits are a number."""
    recording = recorded(
        tmp_path, "serial,when,x\n20200101,2020-03-09 10:00,1\n20200102,2020-03-09 10:01,2\n"
    )
    assert list(recording.values) == ["serial", "x"]


def test_files_without_time_are_counted(tmp_path: Path) -> None:
    """By --period; without it a second, which is said."""
    text = "x,y\n" + "1,2\n" * 3
    assert recorded(tmp_path, text, period=10.0).stamps == ["0", "10", "20"]
    assert any("a row a second" in note for note in recorded(tmp_path, text).notes)


@pytest.mark.parametrize(
    ("text", "reading", "said"),
    [
        ("time,x\n1,2\n", {"time_column": "tiem"}, "did you mean 'time'"),
        ("time,x\nnow,2\n", {}, ":2: time: 'now' is not"),
        ("time,x\n2020-01-01,2\n,3\n", {}, ":3: time: the time is missing"),
        ("time,x\n1,a\n2,b\n", {}, "no numeric column"),
        ("time,x\n7,1\n7,2\n7,3\n", {}, "is 'time' the time"),
        ("time,x\n1,2\n", {"ignore": ("anomly",)}, "no column 'anomly'"),
    ],
)
def test_unusable_recordings_are_said(
    tmp_path: Path, text: str, reading: dict[str, object], said: str
) -> None:
    """With the place, and with what there is."""
    with pytest.raises(BadRecording, match=said):
        recorded(tmp_path, text, **reading)


def test_rows_out_of_order_are_counted(tmp_path: Path) -> None:
    """Duplicates and steps back stay in the table, and are said with the first line."""
    recording = recorded(tmp_path, "time,x\n1,2\n2,2\n2,3\n1,4\n3,5\n")
    assert recording.late.tolist() == [2, 3]
    assert any("2 rows are not later" in note and "line 4" in note for note in recording.notes)


@pytest.mark.parametrize(
    ("text", "rows"), [("400rows", 400), ("3 rows", 3), ("2h", 7200), ("10s", 10), (None, 3000)]
)
def test_how_much_is_learned(text: str | None, rows: int) -> None:
    """In rows, in time, or the first third."""
    assert Learn.parse(text).end(np.arange(9000, dtype=np.int64) * SECOND) == rows


@pytest.mark.parametrize("text", ["", "rows", "4 cows", "-3rows", "2 fortnights"])
def test_how_much_is_learned_must_be_clear(text: str) -> None:
    """With what to write instead."""
    with pytest.raises(ValueError, match="400rows or 2h"):
        Learn.parse(text)
