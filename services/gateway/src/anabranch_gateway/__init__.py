"""The edge: authentication, variants, the Ask pipeline, streaming."""
