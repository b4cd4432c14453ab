"""The description of the HTTP interface, served at /api/v1/openapi.json."""

from __future__ import annotations

from typing import Any


def document(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document of this version."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "edge-agent",
            "version": version,
            "description": "Read-only: no request changes the agent or writes to a machine.",
        },
        "paths": {
            "/healthz": _get(
                "Whether the agent is alive: every stage moves or tries on schedule",
                {"200": _json("Alive", _HEALTH), "503": _json("A stage has stalled", _HEALTH)},
            ),
            "/readyz": _get(
                "Whether the buffer is open and every machine was tried; details of machines and sinks",
                {"200": _json("Ready", _READY), "503": _json("Not ready yet", _READY)},
            ),
            "/metrics": _get(
                "The agent's own metrics in the Prometheus text format",
                {
                    "200": {
                        "description": "Metrics",
                        "content": {"text/plain": {"schema": {"type": "string"}}},
                    }
                },
            ),
            "/api/v1/freshness": _freshness(),
            "/api/v1/openapi.json": _get("This document", {"200": _json("OpenAPI 3.1", {"type": "object"})}),
        },
    }


_HEALTH: dict[str, Any] = {
    "type": "object",
    "required": ["alive", "stalled"],
    "properties": {
        "alive": {"type": "boolean"},
        "stalled": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["stage", "late_seconds"],
                "properties": {"stage": {"type": "string"}, "late_seconds": {"type": "number"}},
            },
        },
    },
}

_READY: dict[str, Any] = {
    "type": "object",
    "required": ["ready"],
    "properties": {
        "ready": {"type": "boolean"},
        "status": {"type": "string"},
        "buffer": {"type": "object"},
        "machines": {"type": "object", "additionalProperties": {"type": "object"}},
        "sinks": {"type": "object", "additionalProperties": {"type": "object"}},
    },
}


_TIME: dict[str, Any] = {"type": ["string", "null"], "format": "date-time"}
_TAGS: dict[str, Any] = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "properties": {"read": _TIME, "committed": _TIME, "acknowledged": _TIME},
    },
}
_FRESHNESS: dict[str, Any] = {
    "type": "object",
    "required": ["machines"],
    "properties": {"machines": {"type": "object", "additionalProperties": _TAGS}},
}


def _freshness() -> dict[str, Any]:
    operation = _get(
        "How far each tag's newest value has come: read, committed, acknowledged; null: none yet",
        {"200": _json("Machines, tags, times", _FRESHNESS), "404": _json("No such machine", _ERROR)},
    )
    only = {"name": "machine", "in": "query", "schema": {"type": "string"}, "description": "Only this one"}
    operation["get"]["parameters"] = [only]
    return operation


_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}


def _get(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"get": {"summary": summary, "responses": responses}}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}
