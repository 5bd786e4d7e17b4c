"""Which named database of LMDB holds which space, and which ones wait to be removed.

A space begins in the database of its own name. When a staged generation takes its place it lives
in ``<name>#<number>``; numbers never come again. Kept in the engine's own database, in the same
transaction as what it speaks of::

    place/<space name>   ->  the database's name; none: the space's own
    staged/<database>    ->  empty: being filled, and nobody's; left over when found at start
    dropped/<database>   ->  empty: to be removed, in pieces
    generation           ->  the highest number given so far, 8 bytes
"""

from typing import Final

from nodedb.storage.engine import Space

_PLACE_PREFIX: Final = b"place/"
_STAGED_PREFIX: Final = b"staged/"
_DROPPED_PREFIX: Final = b"dropped/"
_GENERATION_KEY: Final = b"generation"
_SEPARATOR: Final = "#"
_RECORDS_MAX: Final = 1 << 30


class Generations:
    """The records above, in memory and in ``meta``."""

    def __init__(self, meta: Space) -> None:
        """Read what stands in ``meta``."""
        self._meta = meta
        self.dropped: set[str] = set()
        self._places: dict[str, str] = {}
        self._staged: dict[str, str] = {}
        for key, value in self._records(_PLACE_PREFIX):
            self._places[key] = value.decode()
        self._names = {database: name for name, database in self._places.items()}
        for database, _ in self._records(_DROPPED_PREFIX):
            self.dropped.add(database)
        self._left_over = {database for database, _ in self._records(_STAGED_PREFIX)}

    def drop_left_over(self) -> None:
        """Let go of what an interrupted load has left behind."""
        for database in sorted(self._left_over):
            self._meta.delete(_STAGED_PREFIX + database.encode())
            self.drop(database)
        self._left_over.clear()

    def _records(self, prefix: bytes) -> list[tuple[str, bytes]]:
        found = self._meta.scan(prefix, prefix + b"\xff", _RECORDS_MAX)
        return [(key[len(prefix) :].decode(), value) for key, value in found]

    def database_of(self, name: str) -> str:
        """Return the database of a space."""
        return self._places.get(name, name)

    def name_of(self, database: str) -> str | None:
        """Return the space that lives in a database, None when it is no space's."""
        if database in self.dropped or database in self._left_over:
            return None
        if database in self._staged.values():
            return None
        name = self._names.get(database, database)
        return name if self.database_of(name) == database else None

    def drop(self, database: str) -> None:
        """Note that a database is to be removed."""
        self.dropped.add(database)
        self._meta.put(_DROPPED_PREFIX + database.encode(), b"")

    def forget_dropped(self, database: str) -> None:
        """Note that a dropped database is removed, or in use again."""
        self.dropped.remove(database)
        self._meta.delete(_DROPPED_PREFIX + database.encode())

    # Staged ones

    def staged_names(self) -> list[str]:
        """Return the names of the spaces that have a staged generation, sorted."""
        return sorted(self._staged)

    def stage(self, name: str) -> str:
        """Return a new database's name for a generation of a space."""
        assert name not in self._staged, name
        assert _SEPARATOR not in name, name
        number = int.from_bytes(self._meta.get(_GENERATION_KEY) or b"", "big") + 1
        self._meta.put(_GENERATION_KEY, number.to_bytes(8, "big"))
        database = f"{name}{_SEPARATOR}{number}"
        self._staged[name] = database
        self._meta.put(_STAGED_PREFIX + database.encode(), b"")
        return database

    def unstage(self, name: str) -> None:
        """Give a staged generation up."""
        database = self._staged.pop(name)
        self._meta.delete(_STAGED_PREFIX + database.encode())
        self.drop(database)

    def switch(self, name: str) -> str:
        """Let the staged generation be the space; return the database that was it before."""
        before = self.database_of(name)
        database = self._staged.pop(name)
        self._meta.delete(_STAGED_PREFIX + database.encode())
        self._names.pop(before, None)
        self._names[database] = name
        self._places[name] = database
        self._meta.put(_PLACE_PREFIX + name.encode(), database.encode())
        return before
