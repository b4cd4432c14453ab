"""Byte orders as people write them in YAML: one for everything, or one by type."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from edge_agent_drivers import codec

_LONG_ORDERS = {
    "AB": "ABCD",
    "BA": "DCBA",
    "ABCDEFGH": "ABCD",
    "HGFEDCBA": "DCBA",
    "BADCFEHG": "BADC",
    "GHEFCDAB": "CDAB",
}


def _order(written: object) -> object:
    if isinstance(written, str):
        order = _LONG_ORDERS.get(written, written)
        if order in codec.ORDERS:
            return order
    raise ValueError(f"'{written}' is no byte order: write ABCD (the usual one), DCBA, BADC or CDAB")


def _orders(written: object) -> object:
    if not isinstance(written, dict):
        return _order(written)
    for type_ in written:
        if type_ not in codec.TYPES:
            raise ValueError(f"byte_order by type: '{type_}' is no type; types are {', '.join(codec.TYPES)}")
    return {type_: _order(order) for type_, order in written.items()}


_ORDER_SCHEMA = {"type": "string", "enum": [*codec.ORDERS, *_LONG_ORDERS]}
Order = Annotated[str, BeforeValidator(_order), WithJsonSchema(_ORDER_SCHEMA)]
"""One of the four byte orders, in its 32-bit form."""
Orders = Annotated[
    str | dict[str, str],
    BeforeValidator(_orders),
    WithJsonSchema(
        {
            "anyOf": [
                _ORDER_SCHEMA,
                {
                    "type": "object",
                    "propertyNames": {"enum": list(codec.TYPES)},
                    "additionalProperties": _ORDER_SCHEMA,
                },
            ]
        }
    ),
]
"""A byte order for everything, or one by type."""
