"""Freshness per tag: how far the newest value of each has come, noted per batch."""

from __future__ import annotations

from edge_agent.vitals import TagFreshness, TagTimes
from edge_agent.vitals import freshness as module

FAST = ("flow", "pressure")
SLOW = ("energy",)


def test_every_stage_of_every_tag() -> None:
    """Read, then committed, then acknowledged, each at its own time; a tag that never came stays at 0."""
    tags = TagFreshness([*FAST, *SLOW, "silent"])
    tags.read(FAST, 10, ())
    tags.read(SLOW, 11, ())
    tags.committed(FAST, 10, (), range(5, 6))
    tags.read(FAST, 20, ())
    assert tags.tags() == {
        "flow": TagTimes(20, 10, 0),
        "pressure": TagTimes(20, 10, 0),
        "energy": TagTimes(11, 0, 0),
        "silent": TagTimes(0, 0, 0),
    }
    tags.acknowledged(5)
    assert tags.tags()["flow"] == TagTimes(20, 10, 10)
    assert tags.oldest()["acknowledged"][1] == 0


def test_a_tag_without_a_value_stays_where_it_was() -> None:
    """A bad column keeps the time of its last value while its neighbours move, at each stage."""
    tags = TagFreshness(FAST)
    for ns, bad in ((10, ()), (20, (1,)), (30, (1,))):
        tags.read(FAST, ns, bad)
        tags.committed(FAST, ns, bad, range(ns, ns + 1))
        tags.acknowledged(ns)
    assert tags.tags() == {"flow": TagTimes(30, 30, 30), "pressure": TagTimes(10, 10, 10)}
    assert tags.oldest()["read"] == ("pressure", 10)
    tags.read(FAST, 40, ())
    assert tags.tags()["pressure"].read == 40
    tags.read(FAST, 50, (0, 1))
    assert tags.tags()["flow"].read == 40


def test_nothing_is_acknowledged_that_still_waits_in_the_backlog() -> None:
    """What is live goes first: a slow tag's row from the outage is not taken for delivered."""
    tags = TagFreshness([*FAST, *SLOW])
    tags.committed(SLOW, 1, (), range(1, 2))
    tags.committed(FAST, 2, (), range(2, 3))
    tags.committed(FAST, 9, (), range(9, 10))
    tags.acknowledged(9)
    assert (tags.tags()["flow"].acknowledged, tags.tags()["energy"].acknowledged) == (9, 0)
    tags.acknowledged(1)
    tags.acknowledged(2)
    assert (tags.tags()["flow"].acknowledged, tags.tags()["energy"].acknowledged) == (9, 1)
    tags.acknowledged(77)


def test_subscriptions_with_ever_new_shapes_are_bounded() -> None:
    """Thousands of sets of tags keep every tag's newest time, in bounded memory."""
    names = [f"t{n}" for n in range(40)]
    tags = TagFreshness(names)
    for ns in range(1, 2000):
        some = tuple(names[(ns + step) % 40] for step in range(0, 40, 1 + ns % 17))
        tags.read(tuple(dict.fromkeys(some)), ns, ())
    assert len(tags._shapes) <= module.MOST_SHAPES
    assert min(times.read for times in tags.tags().values()) > 1900
