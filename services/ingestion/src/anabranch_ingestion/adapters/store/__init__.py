"""Documents in a database."""
