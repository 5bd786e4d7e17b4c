"""Descriptors of what the catalog knows, and the snapshot that statements are bound to."""
