"""Remaining useful life, learned from units that were run until they failed."""
