"""The files of the live page, which a browser gets as they are in the package."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files

from kepler_ebpf.exporters.connection import Answer
from kepler_ebpf.exporters.page import joined

TYPES = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "live.js": "text/javascript; charset=utf-8",
    "data.js": "text/javascript; charset=utf-8",
    "chart.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""Every file that is served."""

PATHS = {"": "index.html", "/": "index.html", **{f"/live/{name}": name for name in TYPES}}

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
    "Vary": "Accept-Encoding",
}
"""Nothing from other hosts, nothing inline, no frame. A browser looks for a new version first."""


def asset_of(path: str, *, is_gzipped: bool) -> Answer | None:
    """Return the file of the live page at *path*, None where there is none."""
    name = PATHS.get(path)
    return _asset(name, is_gzipped=is_gzipped) if name else None


@cache
def _asset(name: str, *, is_gzipped: bool) -> Answer:
    text = (files("kepler_ebpf.exporters") / "live" / name).read_bytes()
    tag = f"{hashlib.sha256(text).hexdigest()[:16]}{'-gz' if is_gzipped else ''}"
    encoding = {"Content-Encoding": "gzip"} if is_gzipped else {}
    body = joined([text], compress=is_gzipped)
    return Answer(body, TYPES[name], headers={**HEADERS, **encoding, "ETag": f'"{tag}"'})
