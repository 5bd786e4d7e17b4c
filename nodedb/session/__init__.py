"""Sessions: variables, transaction block, prepared statements, portals and cursors."""
