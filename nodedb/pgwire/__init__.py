"""The PostgreSQL protocol 3.0 front end: bytes to session calls, results to bytes."""
