"""How a node becomes a member, and how the members keep knowing of each other."""
