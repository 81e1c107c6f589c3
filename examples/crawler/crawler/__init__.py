"""A polite crawler of one site at a time, made of jobs that may be killed at any instant."""
