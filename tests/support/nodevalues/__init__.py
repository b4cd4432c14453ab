"""Node's Buffer as a second opinion on how numbers lie in registers; shares no code with us."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support import tools

TYPES = ("int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64")


class NodeValues:
    """One Node process that encodes and decodes; a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [tools.node(), Path(__file__).with_name("values.cjs")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # It ends with its input.
        self._process.communicate(timeout=10)

    def encode(self, questions: Sequence[tuple[str, str, float]]) -> list[bytes]:
        """The register bytes of each (type, byte order, number)."""
        return [bytes.fromhex(text) for text in self._ask([(t, o, repr(n)) for t, o, n in questions])]

    def decode(self, questions: Sequence[tuple[str, str, bytes]]) -> list[float]:
        """The number of each (type, byte order, register bytes)."""
        answers = self._ask([(t, o, f"hex:{raw.hex()}") for t, o, raw in questions])
        return [
            float(text) if type_.startswith("float") else int(text)
            for (type_, _, _), text in zip(questions, answers, strict=True)
        ]

    def _ask(self, questions: Sequence[tuple[str, str, str]]) -> list[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(questions) + "\n")
        self._process.stdin.flush()
        answers: list[str] = json.loads(self._process.stdout.readline())
        return answers
