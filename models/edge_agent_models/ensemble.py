"""The detector: it learns what is normal for one machine, and says row by row how far from it the machine is.

    rows -> lags of context -> sensor check -> residual -> three scores -> fused ratio to the limit
                                    |               |
                              faults (masked)   learning: kept, then fitted once

Nothing learned is ever re-centred: what was normal at commissioning stays the measure, so that slow wear is
not absorbed. See README.md beside this package for what it was measured to do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edge_agent.contracts.plugs import Column, Detector
from edge_agent.contracts.settings import HealthSettings
from edge_agent.errors import ModelError
from edge_agent.types import HealthState, Score
from edge_agent_models import words
from edge_agent_models.arrays import Arrays, Bools, Floats, below, prefixed, taken
from edge_agent_models.baseline import LEAST_ROWS, Baseline, fit_baseline, load_baseline
from edge_agent_models.columns import roles
from edge_agent_models.context import Outlook
from edge_agent_models.course import Course, Phase
from edge_agent_models.explain import bands, contributions
from edge_agent_models.innovation import ORDER
from edge_agent_models.judge import Judge, Verdict
from edge_agent_models.lags import Lags
from edge_agent_models.lesson import Lesson
from edge_agent_models.limits import PROVISIONAL, STRANGE
from edge_agent_models.movers import Movers
from edge_agent_models.quality import SensorCheck, plausible
from edge_agent_models.rhythm import PERSIST_SECONDS, Rhythm, persistence_rows

VERSION = 1


class EnsembleDetector(Detector):
    """Level, innovation and novelty of what context does not explain; see the module's docstring."""

    def __init__(self, columns: Sequence[Column], settings: HealthSettings) -> None:
        super().__init__(columns, settings)
        self._settings = settings
        self._names = tuple(column.name for column in columns)
        self._roles = roles(columns, settings)
        tags = len(self._roles.judged)
        self._rhythm = Rhythm()
        self._course = Course(settings.learn)
        self._lags = Lags(len(self._roles.context))
        self._check = SensorCheck(self._roles.ranges)
        self._movers = Movers(tags)
        self._lesson = Lesson(tags, self._lags.width)
        self._judge: Judge | None = None

    @property
    def phase(self) -> Phase:
        """How far the detector is."""
        return self._course.phase

    def update(
        self,
        times: npt.NDArray[np.int64],
        rows: npt.NDArray[np.float64],
        running: npt.NDArray[np.int8],
    ) -> list[Score]:
        """Take n rows in order of time and return n scores; see `Detector.update`.

        ModelError where the rows do not have the columns the detector was made for. A row that is not later
        than the one before is left out, with a note that says so.
        """
        if rows.ndim != 2 or rows.shape[1] != len(self._names) or not len(rows) == len(times) == len(running):
            raise ModelError(
                f"rows of shape {rows.shape} do not fit {len(self._names)} columns and their times"
            )
        clean = plausible(np.asarray(rows, dtype=np.float64))
        steps = zip(times.tolist(), clean, running.tolist(), strict=True)
        return [self._step(time, row, on) for time, row, on in steps]

    def finish_learning(self, *, provisional: bool = False) -> None:
        """End learning now, with the rows there are, and judge from the next row on.

        For recorded files whose learning part is given. Without `provisional` the baseline counts as
        established at once. ModelError where learning is over already, or the rows are too few.
        """
        if self.phase is not Phase.LEARNING:
            raise ModelError("learning is over already")
        self._fit()
        self._begin(Phase.PROVISIONAL if provisional else Phase.ESTABLISHED)

    def _step(self, time: int, row: Floats, running: int) -> Score:
        seconds = self._rhythm.step(time)
        if seconds is None:
            state = HealthState.LEARNING if self._judge is None else HealthState.PAUSED
            return self._plain(time, state, "the row is not later than the one before: left out")
        if self._settings.running_when is None and running < 0:
            running = 1  # nobody said how to tell: every row counts
        gap = self._rhythm.gap(seconds)
        self._course.note(seconds, running, gap and bool(self._roles.context_names))
        lagged = self._lags.step(seconds, row[self._roles.context], running)
        values = self._check.clean(row[self._roles.judged])
        self._check.follow(values, running != 0)
        if running == 0 or gap:
            self._interrupt()
        if running == 0:
            return self._plain(time, HealthState.PAUSED, "the machine is not running")
        if self._judge is None:
            return self._learn(time, seconds, values, lagged, running)
        return self._score(time, seconds, values, lagged, running, self._judge)

    def _interrupt(self) -> None:
        self._lesson.interrupt()
        self._movers.clear()
        if self._judge is not None:
            self._judge.clear()

    def _learn(self, time: int, seconds: float, values: Floats, lagged: Floats, running: int) -> Score:
        course = self._course
        if running < 0:
            self._lesson.interrupt()
            return self._plain(time, HealthState.LEARNING, "running or not is unknown: not learned from")
        if course.since < PERSIST_SECONDS or course.unsure:
            self._lesson.interrupt()
            return self._plain(time, HealthState.LEARNING, "after a start or a gap: not learned from")
        self._lesson.take(values, lagged, course.since)
        course.learned(seconds, self._rhythm.period)
        if course.enough:
            try:
                self._fit()
            except ModelError as reason:
                course.failed(f"learning goes on: {reason}")
            else:
                self._begin(Phase.PROVISIONAL)
        return self._plain(time, HealthState.LEARNING, course.words())

    def _fit(self) -> None:
        lesson = self._lesson
        if lesson.size < LEAST_ROWS:
            raise ModelError(f"{lesson.size} rows of running machine; at least {LEAST_ROWS} are needed")
        part = slice(0, lesson.size)
        baseline = fit_baseline(
            lesson.values[part],
            lesson.context[part],
            lesson.segments[part],
            lesson.since[part],
            self._rhythm.period,
            self._settings.false_alarms,
        )
        self._judge = Judge(baseline)
        self._resume(baseline, self._judge)
        self._lags.bound(baseline.context.low, baseline.context.high)
        self._check.learned(baseline.moves)
        self._movers.clear()

    def _resume(self, baseline: Baseline, judge: Judge) -> None:
        """Fill the windows with the rows just learned, so that judging goes on without a pause."""
        if self._lesson.broken:
            return
        for values, lagged, since in self._lesson.newest(2 * baseline.window + ORDER):
            explained = baseline.context.predict_many(lagged[None])[0]
            judge.take(baseline.standardised(values, explained, baseline.deviations(since)), ~baseline.judged)

    def _begin(self, phase: Phase) -> None:
        self._course.begin(phase)
        if phase is Phase.ESTABLISHED:
            self._lesson.forget()

    def _score(
        self, time: int, seconds: float, values: Floats, lagged: Floats, running: int, judge: Judge
    ) -> Score:
        base, since, unsure = judge.baseline, self._course.since, self._course.unsure
        outlook = base.context.outlook(lagged)
        if not np.isfinite(outlook.widen).all():
            self._interrupt()
            return self._plain(time, HealthState.UNKNOWN_REGIME, words.unknown_ground(self._strange(outlook)))
        deviations = base.deviations(since) * outlook.widen
        row = base.standardised(values, outlook.explained, deviations)
        masked = self._masked(row, outlook, deviations, base)
        if since < max(base.settling.hold, PERSIST_SECONDS) or unsure:
            judge.clear()
            return self._plain(time, HealthState.PAUSED, words.waiting(unsure))
        verdict = judge.take(row, masked)
        self._check.watch_spikes(row)
        if verdict is None:
            return self._plain(time, HealthState.PAUSED, "gathering rows after a stop or a gap")
        score = self._spoken(time, verdict, outlook, deviations, base)
        if self.phase is Phase.PROVISIONAL:
            usual = running > 0 and score.value < 1.0
            self._prove(seconds, np.where(masked, np.nan, values), lagged, usual)
        return score

    def _masked(self, row: Floats, outlook: Outlook, deviations: Floats, base: Baseline) -> Bools:
        scale = np.where(base.judged, deviations, 0.0)
        expected = base.middle + outlook.explained + scale * base.parity.predict(row)
        masked: Bools = self._check.judge(expected, scale * base.parity.spread) & base.judged
        return masked

    def _spoken(
        self, time: int, verdict: Verdict, outlook: Outlook, deviations: Floats, base: Baseline
    ) -> Score:
        widen = PROVISIONAL if self.phase is Phase.PROVISIONAL else 1.0
        value = verdict.value / widen
        self._movers.follow(time, np.abs(verdict.deviations) / (base.tag_limits * widen))
        first = self._movers.first(persistence_rows(base.period)) if value >= 1.0 else None
        names, strange = self._roles.names, self._strange(outlook)
        return Score(
            time,
            value,
            self._state(value, bool(strange)),
            1.0,
            contributions(names, verdict.shares),
            bands(names, base, verdict, outlook.explained, deviations * widen),
            None if first is None else names[first],
            self._faults(),
            words.unfamiliar(strange) if strange else "",
        )

    def _strange(self, outlook: Outlook) -> list[str]:
        return [self._roles.context_names[tag] for tag in np.flatnonzero(outlook.novel)]

    def _state(self, value: float, strange: bool) -> HealthState:
        if self.phase is Phase.PROVISIONAL:
            return HealthState.PROVISIONAL
        if strange:
            # A product or a season never seen explains a lot, but not everything.
            return HealthState.ANOMALOUS if value >= STRANGE else HealthState.UNKNOWN_REGIME
        return HealthState.ANOMALOUS if value >= 1.0 else HealthState.NORMAL

    def _prove(self, seconds: float, values: Floats, lagged: Floats, usual: bool) -> None:
        """Collect the provisional time, and establish the baseline on it too if it was quiet."""
        course = self._course
        course.doubted += 1
        if usual:
            self._lesson.take(values, lagged, course.since)
        else:
            course.unusual += 1
            self._lesson.interrupt()
        course.learned(seconds, self._rhythm.period)
        if not course.proven:
            return
        if course.quiet:
            self._fit()
        self._begin(Phase.ESTABLISHED)

    def _faults(self) -> Mapping[str, str]:
        return {self._roles.names[tag]: what for tag, what in self._check.faults().items()}

    def _plain(self, time: int, state: HealthState, note: str) -> Score:
        """A score that judges nothing."""
        return Score(time, math.nan, state, self._course.progress, faults=self._faults(), note=note)

    def save(self) -> Mapping[str, npt.NDArray[np.generic]]:
        """Everything learned and all streaming state, as arrays without objects; kilobytes once learned."""
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "version": np.array(VERSION),
            "columns": np.array(self._names, dtype=np.str_),
            "judged": self._roles.judged.copy(),
            "context": self._roles.context.copy(),
        }
        for name, part in self._parts().items():
            arrays.update(prefixed(name, part.save()))
        if self._judge is not None:
            arrays.update(prefixed("baseline", self._judge.baseline.save()))
            arrays.update(prefixed("judge", self._judge.save()))
        return arrays

    def load(self, arrays: Arrays) -> None:
        """Go on from what `save` gave. ModelError where it does not fit the columns or the version."""
        self._refuse_foreign(arrays)
        baseline = below("baseline", arrays)
        if baseline:
            self._judge = Judge(load_baseline(baseline))
            self._judge.load(below("judge", arrays))
        for name, part in self._parts().items():
            part.load(below(name, arrays))

    def _parts(self) -> dict[str, Rhythm | Course | Lags | SensorCheck | Movers | Lesson]:
        return {
            "rhythm": self._rhythm,
            "course": self._course,
            "lags": self._lags,
            "check": self._check,
            "movers": self._movers,
            "lesson": self._lesson,
        }

    def _refuse_foreign(self, arrays: Arrays) -> None:
        version = int(taken(arrays, "version"))
        if version != VERSION:
            raise ModelError(f"the model is of version {version}, this one reads {VERSION}: learn again")
        names = tuple(str(name) for name in taken(arrays, "columns"))
        if names != self._names:
            was, now = ", ".join(names), ", ".join(self._names)
            raise ModelError(f"the model was learned for {was}; the machine now has {now}: learn again")
        for role in ("judged", "context"):
            if not np.array_equal(taken(arrays, role), getattr(self._roles, role)):
                raise ModelError("the model was learned with other judged or context tags: learn again")
