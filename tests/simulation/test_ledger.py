"""The ledger adds up, and a line more leaves it so."""

from __future__ import annotations

from tests.simulation.ledger import PAGE, TOTAL, Line, parse, total_of, with_line

LINE = Line("2031-02-03", "abc1234", "1 to 10", 10, 90, 3_000, 640, 5, 1)


def test_the_total_is_the_sum_of_the_batches() -> None:
    lines = parse(PAGE.read_text(encoding="utf-8"))
    assert lines[-1].date == TOTAL
    assert lines[-1] == total_of(lines[:-1])
    assert all(line.date != TOTAL for line in lines[:-1])
    for line in lines[:-1]:
        first, last = map(int, line.seeds.split(" to "))
        assert line.runs == last - first + 1


def test_a_line_more() -> None:
    page = PAGE.read_text(encoding="utf-8")
    before, after = parse(page), parse(with_line(page, LINE))
    assert after[:-2] == before[:-1]
    assert after[-2] == LINE
    assert after[-1].runs == before[-1].runs + 10
    assert after[-1].failures == before[-1].failures + 1
    outside = [line for line in page.splitlines() if not line.startswith("|")]
    changed = with_line(page, LINE).splitlines()
    assert [line for line in changed if not line.startswith("|")] == outside
