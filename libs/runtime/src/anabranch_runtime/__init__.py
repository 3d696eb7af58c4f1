"""One process of a service: settings, start, readiness, drain."""
