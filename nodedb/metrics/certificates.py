"""When certificates expire. An alert on it is the cheapest outage ever avoided."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography import x509
from prometheus_client.core import GaugeMetricFamily, Metric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path


class CertificateFiles:
    """Expiry of the certificates in a directory; a file is read again only after it changed."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._read: dict[str, tuple[int, float]] = {}

    def expiries(self) -> list[tuple[str, float]]:
        """Return (file name, seconds since the Unix epoch) of each ``*.crt``, sorted.

        A file of several certificates counts with its first to expire; one that is none is left
        out: the reload or the start complains about it.
        """
        if self._directory is None:
            return []
        found = []
        for path in sorted(self._directory.glob("*.crt")):
            try:
                changed = path.stat().st_mtime_ns
                if self._read.get(path.name, (0, 0.0))[0] != changed:
                    self._read[path.name] = (changed, _first_expiry(path.read_bytes()))
            except (OSError, ValueError):
                self._read.pop(path.name, None)
                continue
            found.append((path.name, self._read[path.name][1]))
        return found


def _first_expiry(pem: bytes) -> float:
    certificates = x509.load_pem_x509_certificates(pem)
    return min(certificate.not_valid_after_utc.timestamp() for certificate in certificates)


def collect_certificates(
    expiries: Callable[[], Iterable[tuple[str, float]]],
) -> Iterator[Metric]:
    """Yield the expiry of each certificate that the node has loaded or trusts."""
    family = GaugeMetricFamily(
        "nodedb_certificate_expiry_timestamp_seconds",
        "When the certificate expires, in seconds since the Unix epoch",
        labels=["certificate"],
    )
    for name, expiry in expiries():
        family.add_metric([name], expiry)
    yield family
