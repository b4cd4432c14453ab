"""E7: a million mutated replies of Modbus TCP, 200,000 of RTU. FRAMES=100000000: a hundred times as many."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from edge_agent_drivers.modbus import mbap, rtu
from edge_agent_drivers.modbus.faults import BadReply, LineFault, Refused, WrongCount
from edge_agent_drivers.modbus.owing import Owing
from edge_agent_drivers.modbus.pdu import Question
from tests.drivers import mutations, mutations_rtu
from tests.drivers.mutations import Mutation, any_question, in_pieces
from tests.drivers.test_modbus_line import Wire

FRAMES = int(os.environ.get("FRAMES", "1_000_000"))
SHARES = 10
"""The frames are shared out over so many tests, which may run side by side."""
HANG = 0.1
"""Seconds of processor time one reply may take."""


class RtuWire(Wire):
    """A wire with RTU at this end, which waits for nothing."""

    def connect(self) -> rtu.RtuConnection:
        return rtu.RtuConnection("device", Owing(0.0), gap=0.0, settle=10.0)

    def quiet(self) -> None:
        """The line has been silent for a while: what is unfinished stays so."""
        assert isinstance(self.connection, rtu.RtuConnection)
        self.connection._quiet()


@dataclass(frozen=True)
class Framing:
    """A framing and what can go wrong in it."""

    wire: Callable[[], Wire]
    frame: Callable[[Question], bytes]
    right: Callable[[Question, random.Random], tuple[bytes, bytes]]
    mutations: tuple[Mutation, ...]
    usual: int = 125
    """Most registers asked for, except now and then: RTU's checksum makes long replies dear."""
    share: int = SHARES
    """The part of `FRAMES` one test takes."""


FRAMINGS = {
    "mbap": Framing(Wire, mbap.frame, mutations.right_answer, mutations.MUTATIONS),
    "rtu": Framing(RtuWire, rtu.frame, mutations_rtu.right_answer, mutations_rtu.MUTATIONS, 8, 5 * SHARES),
}


def outcome_of(wire: Wire, question: Question, said: bytes, rng: random.Random) -> tuple[object, float]:
    """What becomes of a question when this comes, in pieces or not; and how long that took."""
    answer = wire.connection.ask(question)
    pieces = in_pieces(said, rng)
    began = time.thread_time()
    for piece in pieces:
        wire.feed(piece)
    if isinstance(wire, RtuWire) and not answer.done():
        wire.quiet()
    took = time.thread_time() - began
    return answer.result() if answer.done() else None, took


@pytest.fixture
def _collected_by_hand() -> Iterator[None]:
    """Python's collector, which may pause for longer than a reply may take, runs between replies only."""
    gc.collect()
    gc.freeze()
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.usefixtures("_collected_by_hand")
@pytest.mark.timeout(60 + FRAMES / 1000)
@pytest.mark.parametrize("seed", range(SHARES))
@pytest.mark.parametrize("name", FRAMINGS)
async def test_e7_mutated_replies_give_a_fault_or_the_genuine_value(name: str, seed: int) -> None:
    """1,200,000 replies: no exception out of the protocol, no hang, no invented value.

    A quarter of them is right, and every one of those is taken; the oracle is what was put into the reply.
    """
    rng, framing = random.Random(seed), FRAMINGS[name]
    wire, genuine, slowest = framing.wire(), 0, 0.0
    outcomes = dict.fromkeys((bytes, Refused, WrongCount, BadReply), 0)
    count = FRAMES // framing.share
    for n in range(count):
        question = any_question(n, rng, framing.usual if n % 32 else 125)
        reply, content = framing.right(question, rng)
        honestly = rng.randrange(4) == 0
        genuine += honestly
        said = reply if honestly else rng.choice(framing.mutations)(reply, question, rng)
        outcome, took = outcome_of(wire, question, said, rng)
        slowest = max(slowest, took)
        assert wire.sent == framing.frame(question)
        if isinstance(outcome, bytes) or honestly:
            assert outcome == content
            assert reply in said
        if outcome is not None:
            assert isinstance(outcome, bytes | LineFault)
            outcomes[type(outcome)] += 1
        if wire.closed or not isinstance(outcome, bytes | Refused):
            # What the line does after silence and garbage, or waits for.
            wire.connection.close()
            wire = framing.wire()
        if n % 1000 == 0:
            gc.collect()
            await asyncio.sleep(0)  # for timers that were stopped
    assert slowest < HANG
    assert outcomes[bytes] > genuine > count / 5
    assert min(outcomes.values()) > count / 200
