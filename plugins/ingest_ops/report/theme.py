"""Reports in the colours of Airflow's own theme.

Airflow keeps its theme in the browser's storage, which a report cannot read, as it may run no script; its frame follows
the operating system alone. So a page in between, with one script whose hash its policy names, puts the theme into a
cookie for the reports' path and goes on; the reports are then sent with that theme's colours.
"""

import base64
import hashlib
from html import escape

COOKIE = "k2_theme"
MEDIA = b"@media (prefers-color-scheme: dark)"
"""What the style of every report asks."""
ANSWERS = {"dark": (b"@media all", b"dark"), "light": (b"@media not all", b"light")}
"""Theme -> the question's place taken by its answer, and the colour scheme of scroll bars and the like."""
SCRIPT = f"""
const theme = localStorage.getItem("theme");
const known = theme === "light" || theme === "dark" ? theme : "system";
document.cookie = `{COOKIE}=${{known}}; path=/k2; SameSite=Strict`;
location.replace(document.getElementById("to").href);
"""
HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; script-src 'sha256-{HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; "
    "sandbox allow-same-origin allow-scripts"
)
"""This one script and nothing else; there is nothing of a report on the page."""


def hand_over(target: str) -> str:
    """The page in between; ``target`` is an address of the report page."""
    to = escape(target, quote=True)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Reports</title>'
        f'<noscript><meta http-equiv="refresh" content="0; url={to}"></noscript></head>'
        f'<body><p><a id="to" href="{to}">Reports</a></p><script>{SCRIPT}</script></body></html>\n'
    )


def themed(document: bytes, theme: str | None) -> bytes:
    """A report or the list in the colours of a theme; unchanged where the theme is the operating system's."""
    if theme not in ANSWERS:
        return document
    media, scheme = ANSWERS[theme]
    return document.replace(MEDIA, media).replace(b"color-scheme: light dark", b"color-scheme: " + scheme)
