"""A real Prometheus that scrapes a server of ours."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote
from urllib.request import urlopen

GIVE_UP_S = 30


@contextmanager
def scraping(target: str, folder: Path, **job: Any) -> Iterator[str]:
    """Run a Prometheus whose *job* scrapes *target*, with its files in *folder*; its address."""
    program = shutil.which("prometheus")
    assert program, "prometheus is missing: install Debian's package prometheus"
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    scrape = {"job_name": "kepler", "static_configs": [{"targets": [target]}], **job}
    config = {"global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"}}
    (folder / "p.yml").write_text(json.dumps(config | {"scrape_configs": [scrape]}))
    command = [program, f"--config.file={folder}/p.yml", f"--storage.tsdb.path={folder}/data"]
    process = subprocess.Popen(
        [*command, f"--web.listen-address={address}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield address
    finally:
        process.kill()
        process.wait()


def stored(prometheus: str, query: str) -> list[dict[str, Any]]:
    """Return the series that *query* finds, as soon as it finds any."""
    url = f"http://{prometheus}/api/v1/query?query={quote(query)}"
    give_up_s = time.monotonic() + GIVE_UP_S
    while True:
        assert time.monotonic() < give_up_s, "Prometheus did not store our series"
        time.sleep(0.1)
        try:
            with urlopen(url, timeout=5) as answer:
                if results := json.load(answer)["data"]["result"]:
                    return list(results)
        except OSError:
            continue
