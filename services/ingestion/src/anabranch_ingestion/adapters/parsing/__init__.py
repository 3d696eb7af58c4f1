"""Bytes to text: sniffing, readers by format, and the isolated processes they run in."""
