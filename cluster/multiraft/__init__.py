"""All Raft replicas of one node: one tick, one batch per peer and turn, quiescent groups."""
