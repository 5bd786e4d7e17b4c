"""Numbers of what nodes say to each other. A number is never given a second meaning."""

from typing import Final

# Messages: one way.
RAFT: Final = 1
NODE_BEAT: Final = 2

# Calls.
GREET: Final = 1
JOIN: Final = 2
PING: Final = 3
TOPOLOGY_PUSH: Final = 4
METADATA_PROPOSE: Final = 5
CANCEL: Final = 6
STATUS: Final = 7
TIMESTAMPS: Final = 8

# Streams.
EXECUTE: Final = 1
SNAPSHOT: Final = 2

KIND_NAMES: Final = {RAFT: "raft", NODE_BEAT: "node beat"}
METHOD_NAMES: Final = {
    GREET: "greet",
    JOIN: "join",
    PING: "ping",
    TOPOLOGY_PUSH: "topology push",
    METADATA_PROPOSE: "metadata propose",
    CANCEL: "cancel",
    STATUS: "status",
    TIMESTAMPS: "timestamps",
}
STREAM_NAMES: Final = {EXECUTE: "execute", SNAPSHOT: "snapshot"}
