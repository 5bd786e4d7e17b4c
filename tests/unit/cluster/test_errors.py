"""The three families of cluster errors, by which retry loops decide."""

import pytest

from cluster import errors


@pytest.mark.parametrize("family", [errors.ClusterError, errors.Redirect, errors.Unavailable])
def test_families_are_abstract(family: type[errors.ClusterError]) -> None:
    with pytest.raises(AssertionError, match="is abstract"):
        family("x")


def test_each_error_is_of_one_family() -> None:
    families = (errors.Redirect, errors.Unavailable, errors.OutcomeUnknown)
    found = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.ClusterError)
    ]
    assert len(found) == 8
    for value in found:
        if value is not errors.ClusterError:
            assert sum(issubclass(value, family) for family in families) == 1, value


def test_not_leader_names_who_is() -> None:
    assert str(errors.NotLeader(3)) == "not the leader of the group; node 3 leads it"
    assert errors.NotLeader(0).leader_id == 0
    assert "no leader is known" in str(errors.NotLeader(0))


def test_the_others_speak_in_sentences() -> None:
    assert str(errors.OutcomeUnknown("no answer")) == "no answer"
    assert str(errors.TransferInProgress(2)) == "leadership is being transferred to node 2"
