"""What is printed in place of a number, everywhere the same; `wording.explain` says what each means."""

from __future__ import annotations

NOT_AVAILABLE = "[x]"
NOT_APPLICABLE = "[z]"
PROTECTED = "[c]"  # hidden so that a small count cannot be worked out; the small count itself prints as <threshold
NO_INTERVAL = "no interval"

#: The method of a median whose limits are the smallest and the largest value, where people are too few for an interval.
MEDIAN_RANGE = "median (range)"
