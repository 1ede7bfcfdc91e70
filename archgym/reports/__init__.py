"""The HTML report: one self-contained file that works offline."""

from archgym.reports.html import write_report

__all__ = ["write_report"]
