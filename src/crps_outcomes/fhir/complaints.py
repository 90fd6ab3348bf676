"""What a server says when it refuses (F23). Its words may repeat a patient's data: only the code may be shown.

The text goes to the private folder of the pull and nowhere else. A narrative is XHTML, which no parser here reads:
its tags are taken away as text.
"""

from __future__ import annotations

import html
import re
from typing import Any, NamedTuple

import msgspec

from crps_outcomes.fhir.source import JSON_ERRORS

_CODE = re.compile(r"[a-z][a-z_-]{1,30}", re.ASCII)
_TAG = re.compile(r"<[^>]*>")
_LONGEST_TEXT = 2_000


class Complaint(NamedTuple):
    """``code`` is a word of a closed form, fit for messages; ``severity`` and ``text`` are the server's own writing."""

    severity: str = ""
    code: str = ""
    text: str = ""


def complaint_in(body: bytes, reason: str = "") -> Complaint:
    """What an OperationOutcome, an OAuth error or any other body says; ``reason`` when it says nothing."""
    try:
        document: Any = msgspec.json.decode(body)
    except JSON_ERRORS:
        return Complaint(text=_plain(body.decode(errors="replace")) or reason)
    if not isinstance(document, dict):
        return Complaint(text=reason)
    issue = _worst(document.get("issue"))
    code = issue.get("code") or document.get("error")
    texts = (*_texts(issue), _word(document, "text", "div"), document.get("error_description"))
    text = next((plain for one in texts if isinstance(one, str) and (plain := _plain(one))), reason)
    return Complaint(_code(issue.get("severity")), _code(code), text)


def _worst(issues: Any) -> dict[str, Any]:
    """The first issue that is an error, else the first."""
    known = [one for one in issues if isinstance(one, dict)] if isinstance(issues, list) else []
    errors = [one for one in known if one.get("severity") in {"error", "fatal"}]
    return next(iter(errors or known), {})


def _texts(issue: dict[str, Any]) -> tuple[Any, ...]:
    codings = _word(issue, "details", "coding")
    display = _word(codings[0], "display") if isinstance(codings, list) and codings else None
    return issue.get("diagnostics"), _word(issue, "details", "text"), display


def _word(found: Any, *path: str) -> Any:
    for name in path:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _code(text: Any) -> str:
    return text if isinstance(text, str) and _CODE.fullmatch(text) else ""


def _plain(text: str) -> str:
    return " ".join(html.unescape(_TAG.sub(" ", text[: 4 * _LONGEST_TEXT])).split())[:_LONGEST_TEXT]
