"""Rivals of the method, one file each: networks and losses. None imports another.

All are trained by `detach.train_rivals` on the same windows, batches, epochs and optimizer.
"""
