"""What the settings models look like: which keys are known where, which are secret, where a key belongs."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, SecretStr

Model = type[BaseModel]


def keys(model: Model) -> list[str]:
    """The keys a mapping of this model takes, other spellings included."""
    return [key for name in model.model_fields for key in spellings(model, name)]


def spellings(model: Model, name: str) -> list[str]:
    """How a field may be written."""
    alias = model.model_fields[name].validation_alias
    if isinstance(alias, AliasChoices):
        return [choice for choice in alias.choices if isinstance(choice, str)]
    return [alias] if isinstance(alias, str) else [name]


def required(model: Model) -> list[str]:
    """The keys that must be there."""
    return [name for name, field in model.model_fields.items() if field.is_required()]


def description(model: Model, key: str) -> str:
    """What a key means: the first sentence of its documentation, or nothing."""
    field = model.model_fields.get(key)
    text = (field.description or "") if field else ""
    return re.split(r"\. |; | \(", text.replace("\n", " "))[0].strip().rstrip(".,")


def models_at(model: Model, path: Sequence[str]) -> list[Model]:
    """The models that a mapping at `path` below `model` may have."""
    annotations: list[Any] = [model]
    for key in path:
        annotations = [below for annotation in annotations for below in _below(annotation, key)]
    return [found for annotation in annotations for found in _models(annotation)]


def takes_only_text(model: Model, path: Sequence[str]) -> bool:
    """Whether the value at `path` is text whatever it looks like: a label `101`, and not a `unit_id`."""
    annotations: list[Any] = [model]
    for key in path:
        annotations = [below for annotation in annotations for below in _below(annotation, key)]
    parts = [part for annotation in annotations for part in _alternatives(annotation)]
    return bool(parts) and all(part in (str, SecretStr, Path) for part in parts)


def _below(annotation: Any, key: str) -> Iterator[Any]:
    for part in _alternatives(annotation):
        origin, arguments = typing.get_origin(part), typing.get_args(part)
        if isinstance(part, type) and issubclass(part, BaseModel):
            for name, field in part.model_fields.items():
                if key in spellings(part, name):
                    yield field.annotation
        elif origin is dict:
            yield arguments[1]
        elif origin in (list, tuple):
            yield arguments[0]


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The members of a union, without Annotated and None."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        yield from _alternatives(typing.get_args(annotation)[0])
    elif origin in (typing.Union, types.UnionType):
        for part in typing.get_args(annotation):
            yield from _alternatives(part)
    elif annotation is not type(None):
        yield annotation


def _models(annotation: Any) -> Iterator[Model]:
    for part in _alternatives(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part


@cache
def secret_keys(model: Model) -> frozenset[str]:
    """The keys anywhere below `model` whose values are secrets."""
    return frozenset(key for path, secret in _walk(model) if secret for key in path[-1:])


@cache
def belongs(model: Model, key: str) -> tuple[str, ...] | None:
    """The shortest path below `model` at which `key` is known, without itself; None where it is nowhere."""
    paths = [path[:-1] for path, _ in _walk(model) if path[-1] == key and len(path) > 1]
    return min(paths, key=len, default=None)


def _walk(model: Model, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Every key below `model` with its path (`*` for any name), and whether it is a secret."""
    if len(path) > 8:
        return
    for name, field in model.model_fields.items():
        parts = list(_alternatives(field.annotation))
        for key in spellings(model, name):
            yield (*path, key), SecretStr in parts
        for part in parts:
            yield from _walk_into(part, (*path, name))


def _walk_into(part: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
    origin, arguments = typing.get_origin(part), typing.get_args(part)
    if origin is dict:
        for inner in _alternatives(arguments[1]):
            yield from _walk_into(inner, (*path, "*"))
    elif origin is list:
        for inner in _alternatives(arguments[0]):
            yield from _walk_into(inner, (*path, "*"))
    elif isinstance(part, type) and issubclass(part, BaseModel):
        yield from _walk(part, path)
