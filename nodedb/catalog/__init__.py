"""The catalog of a node: descriptors, DDL and the tables behind pg_catalog."""
