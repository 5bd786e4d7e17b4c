"""Durability: the node's write-ahead log, the engine with the applied state, key and row codecs."""
