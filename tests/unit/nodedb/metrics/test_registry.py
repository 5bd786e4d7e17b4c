"""The metrics registry, and the collectors that need no running node."""

import datetime
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from nodedb.metrics import MetricsRegistry
from nodedb.metrics.certificates import CertificateFiles, collect_certificates
from nodedb.metrics.cluster import collect_membership, collect_raft, collect_transport
from tests.lib.fake_cluster import FakeView, node_status

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_of(registry: MetricsRegistry) -> Samples:
    """Read the exposition back with the client library's own parser."""
    found: Samples = {}
    for family in text_string_to_metric_families(registry.render().decode()):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def cluster_registry(view: FakeView) -> MetricsRegistry:
    registry = MetricsRegistry()
    registry.add("raft", lambda: collect_raft(view))
    registry.add("transport", lambda: collect_transport(view))
    registry.add("membership", lambda: collect_membership(view))
    return registry


def test_the_cluster_as_metrics() -> None:
    view = FakeView()
    view.node_list[2] = node_status(3, state="draining", liveness="suspect")
    view.quorum = False
    found = samples_of(cluster_registry(view))
    group = (("group", "1"),)
    assert found["nodedb_raft_is_leader", group] == 1
    assert found["nodedb_raft_term", group] == 3
    assert found["nodedb_raft_log_entries", group] == 32
    assert found["nodedb_raft_peer_lag_entries", (("group", "1"), ("peer", "3"))] == 12
    peer = (("address", "127.0.0.1:9403"), ("peer", "3"))
    assert found["nodedb_peer_circuit", (*peer, ("state", "open"))] == 1
    assert found["nodedb_peer_circuit", (*peer, ("state", "closed"))] == 0
    assert found["nodedb_peer_consecutive_failures", peer] == 5
    assert ("nodedb_peer_round_trip_seconds", peer) not in found
    other = (("address", "127.0.0.1:9402"), ("peer", "2"))
    assert found["nodedb_peer_round_trip_seconds", other] == 0.00025
    assert found["nodedb_cluster_members", (("state", "active"),)] == 2
    assert found["nodedb_cluster_members", (("state", "draining"),)] == 1
    assert found["nodedb_cluster_members", (("state", "decommissioned"),)] == 0
    assert found["nodedb_swim_members", (("liveness", "suspect"),)] == 1
    assert found["nodedb_swim_members", (("liveness", "dead"),)] == 0
    assert found["nodedb_subsystem_running", (("subsystem", "swim"),)] == 1
    assert found["nodedb_quorum", ()] == 0


def test_names_follow_the_rules() -> None:
    """Base units only, one prefix, help texts, ``_total`` for counters and for nothing else."""
    text = cluster_registry(FakeView()).render().decode()
    families = list(text_string_to_metric_families(text))
    assert len(families) > 15
    for family in families:
        assert re.fullmatch(r"nodedb_[a-z0-9_]+", family.name), family.name
        assert family.documentation, family.name
        assert not re.search(r"_(ms|us|millis|minutes|kb|mib|percent)\b", family.name), family.name
        names = {sample.name for sample in family.samples}
        is_counter = family.type == "counter"
        assert all(name.endswith("_total") == is_counter for name in names), names


def test_a_broken_collector_costs_the_others_nothing_and_is_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    registry = MetricsRegistry()

    def broken() -> Iterator[Metric]:
        yield GaugeMetricFamily("nodedb_half", "Half of a subsystem", value=1)
        raise RuntimeError("stopped")

    registry.add("broken", broken)
    registry.add("good", lambda: [GaugeMetricFamily("nodedb_good", "Whole", value=2)])
    samples_of(registry)
    found = samples_of(registry)
    assert found["nodedb_good", ()] == 2
    assert ("nodedb_half", ()) not in found
    assert found["nodedb_metrics_failures_total", (("subsystem", "broken"),)] == 2
    assert found["nodedb_metrics_failures_total", (("subsystem", "good"),)] == 0
    assert caplog.text.count("the metrics of broken cannot be collected") == 1


def test_a_subsystem_owns_its_name_until_it_is_removed() -> None:
    registry = MetricsRegistry()
    registry.add("swim", list)
    with pytest.raises(AssertionError, match="added twice"):
        registry.add("swim", list)
    registry.remove("swim")
    assert registry.subsystems == ()
    registry.add("swim", list)


def write_certificate(path: Path, days: int) -> float:
    """Write a self-signed certificate; returns when it expires."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    end = start + datetime.timedelta(days=days)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(end)
        .sign(key, hashes.SHA256())
    )
    with path.open("ab") as file:
        file.write(certificate.public_bytes(Encoding.PEM))
    return end.timestamp()


def test_certificates_are_read_again_when_they_change(tmp_path: Path) -> None:
    files = CertificateFiles(tmp_path)
    registry = MetricsRegistry()
    registry.add("certificates", lambda: collect_certificates(files.expiries))
    name = "nodedb_certificate_expiry_timestamp_seconds"
    later = write_certificate(tmp_path / "ca.crt", 3650)
    (tmp_path / "broken.crt").write_text("no certificate")
    assert samples_of(registry)[name, (("certificate", "ca.crt"),)] == later
    sooner = write_certificate(tmp_path / "ca.crt", 30)
    found = samples_of(registry)
    assert found[name, (("certificate", "ca.crt"),)] == sooner
    assert (name, (("certificate", "broken.crt"),)) not in found
    (tmp_path / "ca.crt").unlink()
    assert files.expiries() == []
    assert CertificateFiles(None).expiries() == []
