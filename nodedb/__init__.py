"""The node: whatever touches sockets, disks and clocks is joined here."""
