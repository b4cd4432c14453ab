"""Whether single rows are anomalous: the score with hysteresis, before any persistence in time."""

from __future__ import annotations

import math

from edge_agent.alarms.case import CaseRules
from edge_agent.types import HealthState, Score

_JUDGED = frozenset({HealthState.NORMAL, HealthState.ANOMALOUS})


class AnomalousRows:
    """On with the last of `rules.rows` rows above `on`, off with the first one below `off`.

    For charts and for comparing recorded data with labels; alerts have rules of their own (`Case`). A row
    that is not judged changes nothing.
    """

    def __init__(self, rules: CaseRules | None = None) -> None:
        self._rules = rules or CaseRules()
        self._above = 0
        self.on = False
        """What the last row was."""

    def observe(self, score: Score) -> bool:
        """Whether this row is anomalous."""
        if score.state not in _JUDGED or math.isnan(score.value):
            return self.on
        self._above = self._above + 1 if score.value > self._rules.on else 0
        if self._above >= self._rules.rows:
            self.on = True
        elif score.value < self._rules.off:
            self.on = False
        return self.on
