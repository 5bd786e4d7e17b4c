"""The base of every AST node: immutable, hashable, and storable in the catalog as MessagePack.

Nodes are syntax only: nothing in them is resolved or checked, and none holds source text.
``span`` locates a node in its statement for error positions; it is ``NO_SPAN`` in nodes that were
read back from the catalog.
"""

import msgspec


class Node(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Abstract base.

    The tag is the class name, so a class is renamed only with a store migration.
    """
