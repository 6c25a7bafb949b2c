"""JSON of pod lists, object by object as the bytes arrive."""

import json
from collections.abc import Iterator

import pytest

from kepler_ebpf.names.kubernetes.stream import ListBody

CHUNK = 65_536


def large_pod(size: int) -> dict[str, object]:
    """Return an object of about *size* bytes."""
    env = [{"name": f"E{number}", "value": "v" * 40} for number in range(size // 70)]
    return {"metadata": {"uid": "u", "name": "n"}, "spec": {"containers": [{"env": env}]}}


def pieces(body: bytes, size: int) -> Iterator[bytes]:
    """Yield *body* in pieces."""
    return (body[start : start + size] for start in range(0, len(body), size))


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the characters that each attempt to decode a value had before it."""
    attempts: list[int] = []
    decode = json.JSONDecoder.raw_decode

    def counting(self: json.JSONDecoder, text: str, start: int = 0) -> tuple[object, int]:
        try:
            value, end = decode(self, text, start)
        except json.JSONDecodeError:
            attempts.append(len(text) - start)
            raise
        attempts.append(end - start)
        return value, end

    monkeypatch.setattr(json.JSONDecoder, "raw_decode", counting)
    return attempts


@pytest.mark.parametrize(("count", "size"), [(5, 1_400_000), (10, 500_000), (200, 60_000)])
def test_work_follows_the_length_of_the_list(decoded: list[int], count: int, size: int) -> None:
    """However large its objects are, no more than three times its length is decoded."""
    pods = [large_pod(size)] * count
    body = json.dumps({"kind": "PodList", "metadata": {}, "items": pods}).encode()
    assert list(ListBody(pieces(body, CHUNK)).items()) == pods
    assert sum(decoded) <= 3 * len(body)


def test_body_in_tiny_pieces_is_decoded_as_rarely(decoded: list[int]) -> None:
    """A server that sends a few bytes at a time makes no more work."""
    pods = [large_pod(300_000)]
    body = json.dumps({"kind": "PodList", "metadata": {}, "items": pods}).encode()
    assert list(ListBody(pieces(body, 100)).items()) == pods
    assert sum(decoded) <= 3 * len(body)
