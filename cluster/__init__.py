"""Consensus and membership: pure cores, thin drivers; payloads are opaque bytes."""
