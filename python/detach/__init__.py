"""Learn what people do at home from ambient sensors, taught by a fixed camera and without labels.

Nothing heavy is imported here: `detach.kernels` and `detach.data` need numpy, `detach.ops` and all
that trains needs torch. Each name has one home; there are no re-exports.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("detach")
except PackageNotFoundError:  # a source tree on sys.path, never installed
    __version__ = "0+source"
