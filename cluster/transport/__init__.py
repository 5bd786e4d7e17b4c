"""The transport between nodes: messages, calls and streams over authenticated connections.

``api`` is what the rest of the node sees, ``driver`` carries it out over TCP, ``memory`` without a
network. Everything else is pure: ``frame`` (bytes), ``handshake`` (who may speak), ``session`` (one
established connection), ``breaker``, ``flow`` and ``faults``.
"""
