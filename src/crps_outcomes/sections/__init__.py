"""The sections of the reports: one function each, the same stem as its template."""
