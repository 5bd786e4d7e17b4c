"""Functions, operators, casts and aggregates: their signatures and what they compute."""
