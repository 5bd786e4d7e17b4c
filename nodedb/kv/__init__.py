"""The data group: its log entries, MVCC state and locks."""
