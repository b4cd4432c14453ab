"""What an OPC UA machine may say in YAML, and what it is told where it says something else."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_agent_drivers.opcua.nodeid import NodeRef, parse_node
from edge_agent_drivers.opcua.path import escaped, parse_path
from edge_agent_drivers.opcua.settings import OpcuaMachine

SECURE = {"policy": "Basic256Sha256"}


def machine(**keys: Any) -> OpcuaMachine:
    return OpcuaMachine.model_validate({"driver": "opcua", "url": "opc.tcp://10.0.4.30:4840", **keys})


@pytest.mark.parametrize(
    ("written", "ref"),
    [
        (
            "nsu=urn:press:plc;s=Press.OilTemperature",
            NodeRef("s", "Press.OilTemperature", 0, "urn:press:plc"),
        ),
        ("ns=2;i=1001", NodeRef("i", "1001", 2)),
        ("i=2258", NodeRef("i", "2258")),
        ("ns=3;s=a;b=c d", NodeRef("s", "a;b=c d", 3)),
        (
            "ns=1;g=09087e75-8e5e-499b-954f-f2a9603db28a",
            NodeRef("g", "09087e75-8e5e-499b-954f-f2a9603db28a", 1),
        ),
        ("ns=1;b=M/RbKBsRVkePCePcx24oRA==", NodeRef("b", "M/RbKBsRVkePCePcx24oRA==", 1)),
    ],
)
def test_node_ids_are_read_as_the_standard_writes_them(written: str, ref: NodeRef) -> None:
    """All four kinds of identifier, with the namespace as index or URI, and back again."""
    assert parse_node(written) == ref
    assert parse_node(str(ref)) == ref


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("Press.OilTemperature", "ns=2;s=Press.OilTemperature"),
        ("1001", "write i=1001"),
        ("ns=2", "the identifier is missing"),
        ("ns=2;i=abc", "text goes with s="),
        ("ns=2;i=4294967296", "text goes with s="),
        ("ns=70000;i=1", "end at 65535"),
        ("ns=1;g=123", "is not a node id"),
        ("ns=1;b=?", "is not a node id"),
        ("s2=4;x=1", "write nsu=URI;s=NAME"),
        (1001, "a node is written like"),
    ],
)
def test_what_is_no_node_id_is_told_so(written: object, advice: str) -> None:
    """An error at the tag's node, with what to write instead."""
    with pytest.raises(ValidationError) as caught:
        machine(tags={"t": {"node": written}})
    [error] = caught.value.errors()
    assert error["loc"] == ("tags", "t", "node")
    assert advice in error["msg"]


@pytest.mark.parametrize(
    ("keys", "place", "text"),
    [
        ({"url": "tcp://10.0.4.30:4840"}, "url", "write opc.tcp://10.0.4.30:4840"),
        ({"url": "10.0.4.30:4840"}, "url", "write opc.tcp://10.0.4.30:4840"),
        ({"url": "opc.tcp://10.0.4.30"}, "url", "4840"),
        ({"url": "opc.tcp://edge:secret@plc:4840"}, "url", "goes into security"),
        ({"security": {"policy": "Basic128Rsa15"}}, "security.policy", "use Basic256Sha256"),
        ({"security": {"policy": "Basic256"}}, "security.policy", "allow_deprecated: true"),
        ({"security": {"mode": "Sign"}}, "security.mode", "mode needs a policy"),
        ({"security": {"trust": "first_use"}}, "security.trust", "trust needs a policy"),
        ({"security": {"server_certificate": "a"}}, "security.server_certificate", "needs a policy"),
        ({"security": {"username": "edge"}}, "security.username", "belong together"),
        ({"security": {"user_key": "a.pem"}}, "security.user_key", "belong together"),
        ({"security": SECURE | {"certificate": "a.der"}}, "security.certificate", "belong together"),
        (
            {"security": SECURE | {"server_certificate": "a", "trust": "first_use"}},
            "security.trust",
            "no first use",
        ),
        (
            {
                "security": SECURE
                | {"username": "a", "password": "b", "user_certificate": "c", "user_key": "d"}
            },
            "security.username",
            "or with user_certificate",
        ),
        ({"mode": "push"}, "mode", "'subscribe' or 'poll'"),
        ({"tags": {"t": {"node": "i=1", "type": "string", "deadband": 1}}}, "tags.t.deadband", "no deadband"),
        ({"tags": {"t": {"type": "bool"}}}, "tags.t.node", "browse: Line1/Temperature"),
        ({"tags": {"t": {"node": "i=1", "browse": "A/B"}}}, "tags.t.node", "not both"),
        ({"tags": {"t": {"node": "i=1", "index": 1, "length": 2}}}, "tags.t.index", "either index"),
        ({"tags": {"t": {"node": "i=1", "fields": ["A"], "length": 2}}}, "tags.t.length", "not both"),
        ({"tags": {"t": {"node": "i=1", "field": "A..B"}}}, "tags.t.field", "an empty name"),
        ({"tags": {"t": {"node": "i=1", "fields": ["A", "A"]}}}, "tags.t.fields", "named twice"),
        (
            {"tags": {"t": {"node": "i=1", "length": 2, "limits": {"high": 1}}}},
            "tags.t.limits",
            "a tag with index or field",
        ),
        ({"tags": {"t": {"node": "i=1", "length": 2}, "t.1": {"node": "i=2"}}}, "tags.t", "named t.1"),
        ({"mode": "poll", "tags": {"t": {"node": "i=1", "deadband": "1%"}}}, "tags.t.deadband", "`range`"),
        ({"mode": "poll", "tags": {"t": {"node": "i=1", "queue_size": 9}}}, "tags.t.queue_size", "polled"),
    ],
)
def test_a_machine_that_cannot_be_is_refused_at_its_key(keys: dict[str, Any], place: str, text: str) -> None:
    """What does not work yet says so; what cannot work says why."""
    with pytest.raises(ValidationError) as caught:
        machine(**keys)
    [error] = caught.value.errors()
    assert ".".join(map(str, error["loc"])) == place
    assert text in error["msg"]


@pytest.mark.parametrize(
    ("written", "advice"),
    [
        ("", "from the Objects folder down"),
        (7, "from the Objects folder down"),
        ("/Objects", "append the names below it"),
        ("A//B", "names stand between single /"),
        ("2:", "an empty name"),
        ("70000:A", "end at 65535"),
        ("A&", "write &&"),
        ("nsu=urn:a", "the path is missing"),
        ("ns=2;s=A", "write it as node"),
    ],
)
def test_what_is_no_browse_path_is_told_so(written: object, advice: str) -> None:
    """An error at the tag's browse, with what to write instead."""
    with pytest.raises(ValidationError) as caught:
        machine(tags={"t": {"browse": written}})
    [error] = caught.value.errors()
    assert error["loc"] == ("tags", "t", "browse")
    assert advice in error["msg"]


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=4))
def test_any_name_can_be_written_in_a_path(names: list[str]) -> None:
    """Escaped, a browse name stands for itself alone."""
    assume(
        not names[0].startswith("nsu=")
        and "/".join(map(escaped, names)).strip() == "/".join(map(escaped, names))
    )
    assume(not re.match(r"(ns=\d+;)?[isgb]=", names[0]))
    path = parse_path("/".join(map(escaped, names)))
    assert [step.name for step in path.steps] == names
    assert all(step.pattern is None and step.namespace is None for step in path.steps)
    assert parse_path(str(path)) == path


def test_the_password_does_not_show() -> None:
    """A printed configuration does not give the password away."""
    settings = machine(security={"username": "edge", "password": "topsecret"})
    assert "topsecret" not in repr(settings) + settings.model_dump_json()


def test_policy_none_may_be_written_as_null() -> None:
    """`policy: null` and `policy: None` mean the same."""
    assert machine(security={"policy": None}).security.policy == "None"


def test_a_withdrawn_policy_is_taken_where_it_is_asked_for() -> None:
    """With allow_deprecated, wherever it stands; and the names of asyncua are understood."""
    security = {"policy": "Basic256", "allow_deprecated": True}
    assert machine(security=security).security.policy == "Basic256"
    assert machine(security={"policy": "Aes256Sha256RsaPss"}).security.policy == "Aes256_Sha256_RsaPss"


def test_the_schema_for_editors_can_be_made() -> None:
    """JSON Schema covers every key."""
    assert "node" in OpcuaMachine.model_json_schema()["$defs"]["OpcuaTag"]["properties"]
