"""`detach report`: one self-contained HTML file over one or more runs."""

from detach.report.page import report

__all__ = ["report"]
