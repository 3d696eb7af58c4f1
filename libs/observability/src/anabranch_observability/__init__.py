"""Logs, traces, metrics and the closed list of their names."""
