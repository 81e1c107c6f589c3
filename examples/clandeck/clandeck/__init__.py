"""Clandeck: a board of cards that everybody online moves at the same time. Six components, and a page in `web/`."""
