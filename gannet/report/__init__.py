"""Reads run folders and reports on them: statistics, conclusions, terminal tables and a self-contained HTML page."""

from gannet.ledger.files import LedgerError
from gannet.ledger.reader import read_comparison, read_run
from gannet.report.html import write_report, write_run_report
from gannet.report.summary import comparison_table, summarise, write_summary

__all__ = [
    "LedgerError",
    "comparison_table",
    "read_comparison",
    "read_run",
    "summarise",
    "write_report",
    "write_run_report",
    "write_summary",
]
