"""What the edge decides, with no transport in sight."""
