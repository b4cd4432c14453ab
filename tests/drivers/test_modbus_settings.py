"""What a Modbus machine may say in YAML, and what it is told where it says something else."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from edge_agent_drivers.modbus.address import Table, parse_address
from edge_agent_drivers.modbus.endpoint import Endpoint
from edge_agent_drivers.modbus.settings import ModbusMachine


def machine(**keys: Any) -> ModbusMachine:
    return ModbusMachine.model_validate({"driver": "modbus", "url": "tcp://10.0.4.21:502", **keys})


def problems(**keys: Any) -> list[tuple[str, str]]:
    """The problems as (place, text)."""
    with pytest.raises(ValidationError) as caught:
        machine(**keys)
    return [(".".join(map(str, error["loc"])), error["msg"]) for error in caught.value.errors()]


@pytest.mark.parametrize(
    ("written", "base", "table", "wire"),
    [
        ("holding:100", 0, Table.HOLDING, 100),
        ("holding:100", 1, Table.HOLDING, 99),
        (" input: 12 ", 0, Table.INPUT, 12),
        ("coil:3", 0, Table.COIL, 3),
        ("discrete:0", 0, Table.DISCRETE, 0),
        ("holding:0x0BB8", 0, Table.HOLDING, 3000),
        ("holding:40101", 0, Table.HOLDING, 40101),
        ("400101", 0, Table.HOLDING, 100),
        ("400101", 1, Table.HOLDING, 100),
        (400101, 0, Table.HOLDING, 100),
        (300013, 0, Table.INPUT, 12),
        ("000004", 0, Table.COIL, 3),
        (465536, 0, Table.HOLDING, 65535),
    ],
)
def test_addresses_mean_what_the_page_says(written: object, base: int, table: Table, wire: int) -> None:
    """Zero-based as on the wire, one-based with address_base 1, six digits as Modicon counts them."""
    address = parse_address(written)
    assert (address.table, address.on_wire(base)) == (table, wire)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        (40101, "write holding:100 (or 400101)"),
        ("40101", "holding:40101 for the latter"),
        (100, "write holding:100, input:100"),
        (4, "write holding:4"),
        ("holding:40.3", "address: holding:40 and bits: {3: name}"),
        ("holding:10/2", "address: holding:10 and the type"),
        ("%MW100", "holding:100"),
        ("0x0BB8", "holding:3000"),
        ("hr:7", "did you mean holding:7?"),
        ("Holding:7", "did you mean holding:7?"),
        ("input_register:7", "did you mean input:7?"),
        ("holdng:7", "did you mean holding:7?"),
        ("holding:-1", "is not an address"),
        ("", "is not an address"),
        (True, "an address is written like"),
        (400000, "does not say which table"),
    ],
)
def test_other_notations_get_an_error_that_says_what_to_write(written: object, advice: str) -> None:
    """A notation that could mean two registers is never guessed."""
    [(place, text)] = problems(tags={"t": {"address": written}})
    assert place == "tags.t.address"
    assert advice in text


@pytest.mark.parametrize(
    ("tag", "place", "text"),
    [
        ({"address": "coil:3", "type": "int16"}, "type", "coils are bits"),
        ({"address": "holding:3", "type": "float31"}, "type", "float32"),
        ({"address": "holding:65535", "type": "float32"}, "address", "beyond the last address"),
        ({"address": "holding:65536"}, "address", "beyond the last address"),
        ({"address": "holding:3", "type": "string"}, "length", "needs its length"),
        ({"address": "holding:3", "length": 4}, "length", "only strings"),
        ({"address": "holding:3", "type": "string", "length": 200}, "length", "raise max_registers"),
        ({"address": "coil:3", "scale": 0.1}, "scale", "no scale"),
        ({"address": "holding:3", "scale": 0}, "scale", "every value the same"),
        (
            {"address": "holding:3", "scale": 2, "scaling": {"raw": [0, 1], "eng": [0, 2]}},
            "scaling",
            "not both",
        ),
        (
            {"address": "holding:3", "scaling": {"raw": [1, 1], "eng": [0, 2]}},
            "scaling",
            "two different points",
        ),
        ({"address": "holding:3", "invalid": [70000]}, "invalid", "does not fit uint16"),
        ({"address": "coil:3", "invalid": [1]}, "invalid", "no invalid values"),
        ({"address": "holding:3", "bits": {16: "x"}}, "bits", "bits 0 to 15, not 16"),
        ({"address": "holding:3", "bits": {0: "x"}, "bit_base": 1}, "bits", "bits 1 to 16, not 0"),
        ({"address": "holding:3", "bits": {0: "x", 1: "x"}}, "bits", "two bits are named 'x'"),
        ({"address": "holding:3", "type": "float32", "bits": {0: "x"}}, "bits", "uint16 or uint32"),
        ({"address": "holding:3", "byte_order": "ACBD"}, "byte_order", "write ABCD"),
        ({"address": "holding:3", "adress": 1}, "adress", "not permitted"),
    ],
)
def test_a_tag_that_cannot_be_is_refused_at_its_key(tag: dict[str, Any], place: str, text: str) -> None:
    """Every impossible tag is an error at the key that is wrong, in words that say why."""
    [(where, what)] = problems(tags={"t": tag})
    assert where.startswith(f"tags.t.{place}")
    assert text in what


@pytest.mark.parametrize(
    ("keys", "place", "text"),
    [
        ({"url": "COM3"}, "url", "a serial line is written rtu:///dev/ttyUSB0"),
        ({"url": "/dev/ttyUSB0"}, "url", "a serial line is written rtu:///dev/ttyUSB0"),
        ({"url": "tcp//10.0.4.21"}, "url", "write tcp://host:port"),
        ({"url": "rtu://ttyUSB0"}, "url", "write rtu:///dev/ttyUSB0"),
        ({"url": "rtu:///dev/ttyUSB0?speed=9600"}, "url", "'speed' is no setting of a serial line"),
        ({"mode": "listen"}, "mode", "listen needs rtu:// or rtu+tcp://"),
        ({"comm": {"listen": "5s"}}, "comm.listen", "only a serial line"),
        ({"url": "10.0.4.21:502"}, "url", "did you mean tcp://10.0.4.21:502?"),
        ({"url": "tcp://10.0.4.21:99999"}, "url", "no port 99999"),
        ({"url": "rtu+tcp://10.0.4.21", "unit_id": 0}, "unit_id", "nobody answers: write 1 to 247"),
        ({"url": "rtu:///dev/ttyUSB0", "unit_id": 248}, "unit_id", "no device of a serial line"),
        ({"unit_id": 256}, "unit_id", "less than or equal to 255"),
        ({"comm": {"retries": 6}}, "comm.retries", "less than or equal to 5"),
        ({"comm": {"pipeline": 4, "pause": "20ms"}}, "comm.pipeline", "leave one out"),
        ({"comm": {"pipeline": 4}, "url": "udp://10.0.4.21"}, "comm.pipeline", "one request at a time"),
        ({"tls": {}}, "tls", "tcp:// has no TLS: write tls://10.0.4.21:502"),
        ({"url": "tls://10.0.4.21", "tls": {"cert_file": "c.pem"}}, "tls", "cert_file and key_file belong"),
        ({"url": "tls://10.0.4.21", "tls": {"insecure": True, "ca_file": "c"}}, "tls", "leave out ca_file"),
        ({"byte_order": {"float3": "CDAB"}}, "byte_order", "'float3' is no type"),
        ({"byte_order": "big"}, "byte_order", "write ABCD"),
        ({"address_base": 1, "tags": {"t": {"address": "holding:0"}}}, "tags.t.address", "the first is 1"),
        (
            {"tags": {"s": {"address": "holding:0", "bits": {0: "r"}}, "s.r": {"address": "coil:0"}}},
            "tags.s.bits",
            "another tag already is",
        ),
    ],
)
def test_a_machine_that_cannot_be_is_refused_at_its_key(keys: dict[str, Any], place: str, text: str) -> None:
    """What not yet says so; what cannot work says why."""
    [(where, what)] = problems(**keys)
    assert where == place
    assert text in what


def test_all_problems_are_told_at_once() -> None:
    """Two wrong tags are two problems, not one at a time."""
    found = problems(tags={"a": {"address": "holding:3", "scale": 0}, "b": {"address": "nowhere"}})
    assert [place for place, _ in found] == ["tags.a.scale", "tags.b.address"]


def test_the_byte_order_of_a_tag_wins_over_the_type_and_that_over_the_machine() -> None:
    """Byte order is taken from the tag, else by type, else ABCD."""
    tags = {
        "own": {"address": "holding:0", "type": "float32", "byte_order": "BADC"},
        "by_type": {"address": "holding:2", "type": "float32"},
        "other": {"address": "holding:4", "type": "int32"},
    }
    settings = machine(byte_order={"float32": "CDAB"}, tags=tags)
    assert [settings.order_of(tag) for tag in settings.tags.values()] == ["BADC", "CDAB", "ABCD"]


def test_unit_is_accepted_for_unit_id() -> None:
    """Both names give the device's unit id; 502 is the default port."""
    assert (machine(unit=7).unit_id, machine(unit_id=7).unit_id) == (7, 7)
    assert machine(url="tcp://plc").endpoint == Endpoint("tcp", "plc", 502)
    assert machine(url="tcp://[fe80::1]:5020").endpoint == Endpoint("tcp", "fe80::1", 5020)


def test_the_schema_for_editors_can_be_made() -> None:
    """JSON Schema covers every key, with the notations of addresses as patterns."""
    schema = ModbusMachine.model_json_schema()
    assert "address" in schema["$defs"]["ModbusTag"]["properties"]
