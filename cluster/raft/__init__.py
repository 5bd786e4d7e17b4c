"""Raft for one group as a pure state machine; ``core`` is where to start reading."""
