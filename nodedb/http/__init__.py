"""Health, metrics and later the cluster API over HTTP."""
