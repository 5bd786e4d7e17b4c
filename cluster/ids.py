"""Identifiers that cross packages; never mixed, so each is a NewType."""

from typing import Final, NewType

NodeId = NewType("NodeId", int)
GroupId = NewType("GroupId", int)

METADATA_GROUP: Final = GroupId(0)
FIRST_DATA_GROUP: Final = GroupId(1)
VSHARD_COUNT: Final = 1024
