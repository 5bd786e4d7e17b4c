"""Typed syntax trees: one frozen class per construct, no source text in any."""
