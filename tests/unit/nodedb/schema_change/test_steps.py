"""The resolver: each state has one next step, and following them always comes to an end."""

from __future__ import annotations

from itertools import product

import pytest

from nodedb.schema_change.steps import Observed, Step, next_step


def follow(seen: Observed) -> list[Step]:
    """Take steps that all succeed."""
    taken: list[Step] = []
    while (step := next_step(seen)) is not Step.DONE:
        taken.append(step)
        assert len(taken) < 10, taken
        match step:
            case Step.WAIT_FOR_WRITERS:
                seen = seen._replace(has_waited=True)
            case Step.ADVANCE:
                seen = seen._replace(state="write_only", has_waited=False)
            case Step.BACKFILL:
                seen = seen._replace(is_filled=True)
            case Step.PUBLISH:
                seen = seen._replace(state="public")
            case Step.REMOVE:
                seen = seen._replace(state=None)
            case Step.FORGET:
                seen = seen._replace(is_recorded=False)
    return taken


def test_a_build_from_its_beginning() -> None:
    assert follow(Observed("delete_only", is_recorded=True)) == [
        Step.WAIT_FOR_WRITERS,
        Step.ADVANCE,
        Step.WAIT_FOR_WRITERS,
        Step.BACKFILL,
        Step.PUBLISH,
        Step.FORGET,
    ]


@pytest.mark.parametrize("is_filled", [False, True])
def test_a_restart_waits_again_for_the_writers_there_are(*, is_filled: bool) -> None:
    steps = follow(Observed("write_only", is_recorded=True, is_filled=is_filled))
    assert steps[0] is Step.WAIT_FOR_WRITERS
    assert (Step.BACKFILL in steps) is not is_filled
    assert steps[-2:] == [Step.PUBLISH, Step.FORGET]


@pytest.mark.parametrize("state", ["delete_only", "write_only"])
def test_a_failure_is_undone_or_left_to_the_user(state: str) -> None:
    failed = Observed(state, is_recorded=True, has_failed=True)  # type: ignore[arg-type]
    assert follow(failed) == [Step.REMOVE, Step.FORGET]
    assert follow(failed._replace(keeps_invalid=True)) == [Step.FORGET]


def test_a_failure_after_the_end_is_none() -> None:
    assert follow(Observed("public", is_recorded=True, has_failed=True)) == [Step.FORGET]


def test_an_index_that_was_dropped_is_forgotten() -> None:
    assert follow(Observed(None, is_recorded=True)) == [Step.FORGET]


def test_every_state_comes_to_an_end() -> None:
    flags = product((False, True), repeat=5)
    for state, (recorded, filled, waited, failed, keeps) in product(
        (None, "write_only", "public"), flags
    ):
        seen = Observed(state, recorded, filled, waited, failed, keeps)  # type: ignore[arg-type]
        follow(seen)
    with pytest.raises(AssertionError, match="before any writer"):
        next_step(Observed("delete_only", is_recorded=True, is_filled=True))
