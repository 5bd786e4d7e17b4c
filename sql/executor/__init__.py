"""Physical operators over batches of rows, and what they need of storage."""
