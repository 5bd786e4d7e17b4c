"""Every recorded call gives PostgreSQL's answer, and strict functions answer NULL for NULL."""

from pathlib import Path

import function_cases
import pytest


def recorded() -> list[tuple[str, str]]:
    lines = (Path(__file__).parent / "cases.txt").read_text(encoding="utf-8").splitlines()
    calls = [line for line in lines if line and line[0] not in "=#"]
    answers = [line[2:] for line in lines if line.startswith("=")]
    return list(zip(calls, answers, strict=True))


@pytest.mark.parametrize(("call", "answer"), recorded(), ids=lambda text: text[:70])
def test_recorded_call(call: str, answer: str) -> None:
    assert function_cases.run_case(call, function_cases.make_context()) == answer
