"""Typed Python client of Anabranch, sync and async."""
