"""Execution of data definition statements: one module per family of objects."""
