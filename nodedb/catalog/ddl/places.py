"""Where errors point to."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from sql.errors import SqlError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def without_position(*, unless: bool = False) -> Iterator[None]:
    """Take the position from errors raised inside, ``unless`` told otherwise.

    PostgreSQL works out most parts of ALTER TABLE after it has let go of the statement's text.
    """
    try:
        yield
    except SqlError as error:
        if not unless:
            error.position = 0
        raise
