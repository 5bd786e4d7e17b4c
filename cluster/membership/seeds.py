"""The addresses a new node asks first: ``--join H:P,...`` and ``--join srv:NAME``.

Static addresses and those behind DNS SRV names stand side by side. A name is looked up again while
the node waits; its last answer is kept when a later look-up fails, and so is the error. The list is
sorted ascending and has each address once: every node that was given the same names has the same
list, whose smallest address is the one to found the cluster.

Source of the SRV form: RFC 2782. Priority and weight are for clients that want one server of many;
here all targets are asked, so they play no part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cluster.membership.address import MalformedAddress, parse_address, parse_advertised, sort_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SRV_PREFIX: Final = "srv:"
SEEDS_MAX: Final = 100
SRV_FOUNDERS_MIN: Final = 2
"""A list that DNS gave must have grown to this before anybody founds a cluster by it."""


class SeedSettings(NamedTuple):
    """``--join`` as parsed: addresses in their one form, and names to look up."""

    addresses: tuple[str, ...]
    srv_names: tuple[str, ...] = ()


def parse_seed(item: str) -> str:
    """Return one item of ``--join`` in its one form. Raises MalformedAddress."""
    text = item.strip()
    if not text.lower().startswith(SRV_PREFIX):
        return parse_advertised(text)
    name = text[len(SRV_PREFIX) :]
    try:
        host = parse_address(f"{name}:1").rpartition(":")[0]
    except MalformedAddress:
        raise MalformedAddress(f'"{item}": expected srv:NAME') from None
    return SRV_PREFIX + host


def parse_seeds(items: Iterable[str]) -> SeedSettings:
    """Parse ``--join``. Raises MalformedAddress for the first bad item, or too many."""
    parsed = {parse_seed(item) for item in items}
    if len(parsed) > SEEDS_MAX:
        raise MalformedAddress(f"{len(parsed)} seeds, at most {SEEDS_MAX}")
    names = sorted(item.removeprefix(SRV_PREFIX) for item in parsed if item.startswith(SRV_PREFIX))
    addresses = (item for item in parsed if not item.startswith(SRV_PREFIX))
    return SeedSettings(tuple(sorted(addresses, key=sort_key)), tuple(names))


class SrvRecord(NamedTuple):
    """One answer of DNS: where a service runs."""

    target: str
    port: int


class SeedList:
    """The seeds as known now. Pure: the driver looks names up and reports."""

    def __init__(self, settings: SeedSettings) -> None:
        self._settings = settings
        self._found: dict[str, tuple[str, ...]] = {}
        self._errors: dict[str, str] = {}

    @property
    def srv_names(self) -> tuple[str, ...]:
        """Names to look up, without the prefix."""
        return self._settings.srv_names

    @property
    def addresses(self) -> tuple[str, ...]:
        """All addresses, sorted ascending, each once."""
        found = {address for addresses in self._found.values() for address in addresses}
        return tuple(sorted(found.union(self._settings.addresses), key=sort_key))

    @property
    def errors(self) -> dict[str, str]:
        """The last error per name (``srv:NAME``) whose last look-up failed."""
        return dict(self._errors)

    @property
    def may_found(self) -> bool:
        """Tell whether the list is one to found a cluster by.

        DNS may know only the first few nodes yet. A node that finds itself alone there would found
        a cluster of one, and so would the next; who wants that lists the address itself.
        """
        is_static = not self._settings.srv_names
        return is_static or len(self.addresses) >= SRV_FOUNDERS_MIN

    def on_answer(self, name: str, records: Sequence[SrvRecord]) -> None:
        """Take the answer for a name. No usable record is an error, and the old answer stays."""
        addresses, fault = [], "no record"
        for record in records:
            target = record.target.removesuffix(".")
            host = f"[{target}]" if ":" in target else target
            try:
                addresses.append(parse_advertised(f"{host}:{record.port}"))
            except MalformedAddress as error:
                fault = f"bad record: {error}"
        if not addresses or len(addresses) > SEEDS_MAX:
            self.on_error(name, fault if not addresses else f"more than {SEEDS_MAX} records")
            return
        self._found[name] = tuple(addresses)
        self._errors.pop(SRV_PREFIX + name, None)

    def on_error(self, name: str, error: str) -> None:
        """Keep the error of a look-up beside the last answer."""
        self._errors[SRV_PREFIX + name] = error
