"""Descriptors: what the catalog knows of each object, and the snapshot that statements are bound to."""
