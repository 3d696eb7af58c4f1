"""How the outside reaches the application."""
