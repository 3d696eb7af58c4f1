"""What the application needs, on real parts."""
