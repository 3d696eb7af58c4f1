"""Ways out: other services, the bus, the database."""
