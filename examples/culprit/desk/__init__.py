"""Six components of one application."""
