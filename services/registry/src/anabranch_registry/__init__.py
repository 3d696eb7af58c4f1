"""Variants and the routing that every replica follows."""
