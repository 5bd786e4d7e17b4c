"""SQL types: identity, text and binary input and output, numbers, dates, arrays, JSON."""
