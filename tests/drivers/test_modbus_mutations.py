"""E7: a million mutated replies. FRAMES=100000000 makes it a hundred million."""

from __future__ import annotations

import os
import random
import time

import pytest

from edge_agent_drivers.modbus.faults import BadReply, Refused, WrongCount
from edge_agent_drivers.modbus.mbap import frame
from tests.drivers.mutations import MUTATIONS, any_question, in_pieces, right_answer
from tests.drivers.test_modbus_line import Wire

FRAMES = int(os.environ.get("FRAMES", "1_000_000"))
SHARES = 10
"""The frames are shared out over so many tests, which may run side by side."""
HANG = 0.1
"""Seconds of processor time one reply may take."""


@pytest.mark.timeout(60 + FRAMES / 1000)
@pytest.mark.parametrize("seed", range(SHARES))
async def test_e7_mutated_replies_give_a_fault_or_the_genuine_value(seed: int) -> None:
    """1,000,000 replies: no exception out of the protocol, no hang, no invented value.

    A quarter of them is right, and every one of those is taken; the oracle is what was put into the reply.
    """
    rng = random.Random(seed)
    wire, genuine, slowest = Wire(), 0, 0.0
    outcomes = dict.fromkeys((bytes, Refused, WrongCount, BadReply), 0)
    for n in range(FRAMES // SHARES):
        question = any_question(n, rng)
        answer = wire.connection.ask(question)
        assert wire.sent == frame(question)
        reply, content = right_answer(question, rng)
        honestly = rng.randrange(4) == 0
        genuine += honestly
        said = reply if honestly else rng.choice(MUTATIONS)(reply, question, rng)
        pieces = in_pieces(said, rng)
        began = time.thread_time()
        for piece in pieces:
            wire.feed(piece)
        slowest = max(slowest, time.thread_time() - began)
        outcome = answer.result() if answer.done() else None
        if isinstance(outcome, bytes) or honestly:
            assert outcome == content
            assert reply in said
        if outcome is not None:
            outcomes[type(outcome)] += 1
        if wire.closed or not isinstance(outcome, bytes | Refused | WrongCount):
            # What the line does: after silence and garbage there is a new connection.
            wire.connection.close()
            wire = Wire()
    assert slowest < HANG
    assert outcomes[bytes] > genuine > FRAMES / SHARES / 5
    assert min(outcomes.values()) > FRAMES / SHARES / 200
