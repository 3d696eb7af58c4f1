"""The trained heads, and their cards. Written by `make guard-models`; not by hand."""
