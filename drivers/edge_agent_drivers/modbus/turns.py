"""Turns on a line that several machines share: who asks next."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """Hands out `capacity` turns at a time, in the order they are asked for.

    Units that are known to answer go before those that are not, so that a row of dead ones cannot stand
    between a living one and its turn; after each round of the living one of the others has its turn too.
    Used from one event loop.
    """

    def __init__(self, capacity: int = 1) -> None:
        self.capacity = capacity
        self.round = 1
        """How many turns the living may take before one of the others."""
        self._taken = 0
        self._passed_over = 0
        self._living: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()

    def take(self) -> bool:
        """Take a turn if one is free and nobody waits for it."""
        if self._taken >= self.capacity or self._living or self._others:
            return False
        self._taken += 1
        return True

    async def wait(self, *, living: bool) -> None:
        """Take a turn as soon as it is one's own."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._living if living else self._others
        queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back()
            else:
                queue.remove(turn)
            raise

    def give_back(self) -> None:
        """End a turn; whoever is next begins."""
        self._taken -= 1
        while self._taken < self.capacity and (self._living or self._others):
            turn = self._next()
            if not turn.done():
                self._taken += 1
                turn.set_result(None)

    def _next(self) -> asyncio.Future[None]:
        if self._others and (not self._living or self._passed_over >= self.round):
            self._passed_over = 0
            return self._others.popleft()
        self._passed_over += bool(self._others)
        return self._living.popleft()
