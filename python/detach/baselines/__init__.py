"""Rivals of the method, one file each; none imports another."""
