"""Outcomes reporting for intramuscular ketamine in Complex Regional Pain Syndrome (CRPS)."""

__version__ = "0.1.0"
