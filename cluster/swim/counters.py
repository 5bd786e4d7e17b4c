"""What a detector has done and seen, as numbers that only grow. The node exports them."""

from dataclasses import dataclass


@dataclass(slots=True)
class SwimCounters:
    """Counts since the start of the process.

    Of probes: ``probes`` started, ``acks`` that ended one in time, ``probe_timeouts`` of the direct
    ping, ``indirect_acks`` that saved a member whose direct ping had failed, ``probe_failures`` in
    the end. ``pings_received``, ``ping_reqs_received``, ``nacks_received``.
    Of members: ``suspects`` (became suspect), ``refutes`` (a suspect or dead member came back),
    ``deads``, ``lefts``, ``self_refutes`` (we contradicted a rumour about ourselves),
    ``boots_raised`` (peers knew a later boot of ours), ``identity_conflicts`` (another address uses
    our id). ``pauses``: times at which the process had not run for a while.
    Of datagrams (all of them, then the bad ones by reason): ``datagrams_sent``,
    ``datagrams_received``, ``bytes_sent``, ``bytes_received``, ``send_errors``; ``bad_malformed``
    (no datagram of this protocol, or one with a body that breaks it), ``bad_version``,
    ``bad_cluster`` (of another cluster), ``bad_authentication`` (another secret, or changed on the
    way), ``bad_recipient`` (meant for another node), ``bad_replay`` (seen before, or too old to
    tell), ``bad_boot`` (of an earlier life of the sender). ``faults_dropped``: lost by a fault
    policy.
    """

    probes: int = 0
    acks: int = 0
    probe_timeouts: int = 0
    indirect_acks: int = 0
    probe_failures: int = 0
    pings_received: int = 0
    ping_reqs_received: int = 0
    nacks_received: int = 0
    suspects: int = 0
    refutes: int = 0
    deads: int = 0
    lefts: int = 0
    self_refutes: int = 0
    boots_raised: int = 0
    identity_conflicts: int = 0
    pauses: int = 0
    datagrams_sent: int = 0
    datagrams_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    send_errors: int = 0
    bad_malformed: int = 0
    bad_version: int = 0
    bad_cluster: int = 0
    bad_authentication: int = 0
    bad_recipient: int = 0
    bad_replay: int = 0
    bad_boot: int = 0
    faults_dropped: int = 0
