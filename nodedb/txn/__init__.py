"""Transactions.

Write buffer, snapshot reads, locks taken when statements run, one decision at commit.
"""
