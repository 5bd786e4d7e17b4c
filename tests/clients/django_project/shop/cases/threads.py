"""Run things at the same time, each in a thread with a connection of its own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.db import OperationalError, connection, transaction

WAIT_SECONDS = 60.0
ATTEMPTS_MAX = 200


def at_once(*works: Callable[[], Any]) -> list[Any]:
    """Start all at the same moment; return what each returned or raised."""
    gate = threading.Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        try:
            connection.ensure_connection()
            gate.wait(WAIT_SECONDS)
            return work()
        except Exception as error:  # noqa: BLE001  the outcome, for the test to judge
            return error
        finally:
            connection.close()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result(WAIT_SECONDS) for future in [pool.submit(run, w) for w in works]]


def with_retry(work: Callable[[], Any]) -> int:
    """Run ``work`` in a transaction until it is not told to try again; return the attempts."""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            with transaction.atomic():
                work()
        except OperationalError as error:
            if error.__cause__.sqlstate not in ("40001", "40P01"):
                raise
        else:
            return attempt
    raise AssertionError(f"no success in {ATTEMPTS_MAX} attempts")
