"""Which names a URL may have for a server that only programs of this host reach.

The name of a stranger's page can resolve to 127.0.0.1 (DNS rebinding). To a browser on this host,
what is served there is then a part of that page, which may read it. Such a request has the
stranger's name as its Host; our names and addresses never resolve to another host.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address

ANY = "*"

_HOST = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<name>[^:\[\]]*))(?::\d*)?", re.ASCII)


def is_ours(host: str, names: Collection[str]) -> bool:
    """Whether a Host header has no name, an address, ``localhost`` or one of *names*."""
    match = _HOST.fullmatch(host.strip().lower())
    if not match:
        return False
    name = (match["ipv6"] or match["name"] or "").removesuffix(".")
    if name in {"", "localhost", *names} or name.endswith(".localhost"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
