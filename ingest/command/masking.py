"""How a value from outside is shown where it is refused or explained: without what may be a secret in it.

A refused value has no form that could be relied on: where its password ends cannot be known. So all is masked that may
be one, and what is left helps to find the mistake.
"""

import re

MASK = "********"
_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://")
_QUERY = re.compile(r"[?#]")
_MORE = re.compile(r"[?#;&=]")
_BRACKETS = re.compile(r"\[[0-9A-Fa-f:.]*\]")
_NO_PORT = re.compile(r":(?!//|[0-9]{0,6}(?:[/,]|$))")


def masked(text: str) -> str:
    """A URL, or a text with one: all up to the last ``@`` and all from a query on is masked, a scheme is kept."""
    return _masked(text, _QUERY)


def refused(value: object, whole: str | None = None) -> str:
    """A refused value of a setting or an option, as it may be shown. ``whole``: the list that it is an item of.

    An item is masked whole if anything in its list may be a secret: a comma may have been part of it.
    """
    text = str(value)
    if whole is not None and text != whole and refused(whole) != whole:
        return MASK
    shown = _masked(text, _MORE)
    scheme, rest = _divided(text)
    if shown == text and _NO_PORT.search(_BRACKETS.sub("", rest)):
        return f"{scheme}{MASK}"  # a user and a password, the host is missing
    return shown


def _masked(text: str, ends: re.Pattern[str]) -> str:
    scheme, rest = _divided(text)
    user, at, host = rest.rpartition("@")
    if ends.search(user):  # part of a password, or the @ is part of a query
        return f"{scheme}{MASK}"
    query = ends.search(host)
    return f"{scheme}{MASK + at if at else ''}{host if query is None else host[: query.end()] + MASK}"


def _divided(text: str) -> tuple[str, str]:
    found = _SCHEME.match(text)
    return (found[0], text[found.end() :]) if found else ("", text)
