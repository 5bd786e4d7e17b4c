"""Text to typed statements, plans and operators. No I/O and no clock."""
