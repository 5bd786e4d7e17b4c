"""The metadata group: typed commands that order everything that is not row data."""
