"""Reads ledgers and tells what happened: statistics, conclusions, terminal tables, and a self-contained
HTML report."""

from experiment.report.html import write_report, write_run_report
from experiment.report.ledger_files import LedgerError
from experiment.report.ledger_reader import read_comparison, read_run
from experiment.report.tables import comparison_table, summarise, write_summary

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
