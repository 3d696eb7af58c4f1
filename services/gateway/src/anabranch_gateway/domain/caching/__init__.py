"""When an answer given before may be given again."""
