"""The node as a member of a cluster: leadership of the data, links to peers, joining, status."""
