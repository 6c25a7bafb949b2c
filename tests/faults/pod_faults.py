"""What the servers that name pods can do: be away, be silent, or answer anything."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from bed import Bed
from fault import Inject, fault, total
from kube_certificates import make_certificate
from kube_runs import silent, source_up, synced_s
from kube_server import Answer, cut, raw, status

ERRORS = total("kepler_ebpf_pod_source_errors_total")
COUNTED = "counted; pods keep their names, and new ones get theirs once it answers"


def recovers(bed: Bed) -> None:
    """Wait until the source is answered again; an event lets its pauses begin anew."""
    heard_s = synced_s(bed.until(source_up, "the source of pods"))
    bed.kube.server.bookmark()
    bed.until(lambda page: synced_s(page) > heard_s)


def answers(bed: Bed, *given: Answer) -> Iterator[None]:
    """Let the next requests be answered so: the pause grows with each, and then the test."""
    for kind in ("watch", "pods"):
        bed.kube.server.answer_next(kind, *given)
    bed.kube.server.end_watches()
    yield
    recovers(bed)


def fails(bed: str) -> Callable[[Inject], Inject]:
    """List a fault that the errors of the source count."""
    return fault(bed, COUNTED, counted=ERRORS)


@fails("apiserver")
def api_server_is_gone(bed: Bed) -> Iterator[None]:
    """The API server is gone, and comes back."""
    bed.kube.server.stop()
    yield
    bed.kube.server.start()
    recovers(bed)


@fault("apiserver", "pods keep their names")
def api_server_is_silent(bed: Bed) -> Iterator[None]:
    """The API server takes requests and never answers."""
    with silent(bed.kube.server):
        yield
    recovers(bed)


@fails("apiserver")
def api_server_answers_garbage(bed: Bed) -> Iterator[None]:
    """The API server answers with garbage."""
    yield from answers(bed, raw(bytes(range(256)) * 100))


@fails("apiserver")
def api_server_answers_deep(bed: Bed) -> Iterator[None]:
    """The API server answers with JSON of 100,000 levels."""
    yield from answers(bed, raw(b'{"items":' + b"[" * 100_000))


@fails("apiserver")
def api_server_answers_huge(bed: Bed) -> Iterator[None]:
    """The API server answers with an object of 32 MB."""
    pod = json.dumps({"metadata": {"name": "x" * (32 << 20)}})
    yield from answers(bed, raw(f'{{"metadata": {{}}, "items": [{pod}]}}'.encode()))


@fails("apiserver")
def api_server_redirects(bed: Bed) -> Iterator[None]:
    """The API server redirects to another host."""
    yield from answers(bed, status(302, Location="https://192.0.2.1/"))


@fails("apiserver")
def api_server_forbids(bed: Bed) -> Iterator[None]:
    """The API server takes away the right (403)."""
    yield from answers(bed, status(403, "no\x1b[31m\nline"))


@fails("apiserver")
def api_server_breaks_off(bed: Bed) -> Iterator[None]:
    """The API server breaks off in the middle of an answer."""
    yield from answers(bed, cut(b'{"metadata": {"resourceVersion": "1'))


@fails("apiserver")
def api_server_forgets(bed: Bed) -> Iterator[None]:
    """The API server has forgotten the history (410)."""
    bed.kube.server.bookmark()
    bed.kube.server.state.version += 10
    bed.kube.server.compact()
    bed.kube.server.end_watches()
    yield
    recovers(bed)


@fails("apiserver")
def api_server_has_another_certificate(bed: Bed) -> Iterator[None]:
    """The API server has a certificate of another CA."""
    with certificate_of_another(bed):
        yield
    recovers(bed)


@contextmanager
def certificate_of_another(bed: Bed) -> Iterator[None]:
    """Let the server have a certificate that nobody trusts."""
    server = bed.kube.server
    server.stop()
    right = server._certificate  # noqa: SLF001
    server._certificate = make_certificate(bed.folder / "wrong")  # noqa: SLF001
    server.start()
    yield
    server.stop()
    server._certificate = right  # noqa: SLF001
    server.start()


@fails("kubelet")
def kubelet_is_gone(bed: Bed) -> Iterator[None]:
    """The kubelet is gone, and comes back."""
    bed.kube.server.answer_next("pods", cut(b""))  # ends the connection that is kept
    yield from api_server_is_gone(bed)


@fails("kubelet")
def kubelet_answers_garbage(bed: Bed) -> Iterator[None]:
    """The kubelet answers with half a list, 500, and words."""
    yield from answers(bed, cut(b'{"items": [{'), status(500), raw(b"words"))
