"""Recordings in, windows out, as numpy arrays. Nothing here reaches torch."""
