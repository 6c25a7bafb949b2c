"""The caller's side of the socket of jobs."""

from __future__ import annotations

from typing import Any

from kepler_ebpf.errors import KeplerError, ReadError, SetupError
from kepler_ebpf.host.unix_socket import connect_unix
from kepler_ebpf.jobs.protocol import DEFAULT_SOCKET, Begin, answered, encode, run_of_answer
from kepler_ebpf.model.energy import MeterStats
from kepler_ebpf.stat.result import Run

TIMEOUT_S = 30.0
"""For an answer, which takes a tenth of a second on a host that is not overloaded."""

MAX_ANSWER_BYTES = 1 << 20


class RemoteJob:
    """A job that a `run` on this host measures, from the making of this object to ``end``."""

    def __init__(self, path: str, begin: Begin) -> None:
        """Begin a job at the socket *path*. Raises KeplerError."""
        self.lost_children = 0
        try:
            self._stream = connect_unix(path, TIMEOUT_S)
        except OSError as error:
            problem = f"no run of kepler-ebpf measures for others at {path}: {error.strerror}"
            raise SetupError(problem, f"start one with --jobs-socket {path}") from error
        fields: dict[str, Any] = {"begin": begin.scope}
        if begin.scope != "command":
            fields["children"] = begin.children
        if begin.thread is not None:
            fields["thread"] = begin.thread
        try:
            answer = self._ask(fields)
            self.meter = MeterStats(str(answer["meter"]), is_estimate=bool(answer["estimate"]))
        except KeyError as error:
            self.close()
            raise ReadError("the run that measures for us gave no answer", "see its log") from error
        except KeplerError:
            self.close()
            raise

    def end(self) -> Run:
        """End the job and return what it has used. Raises KeplerError."""
        try:
            answer = self._ask({"end": True})
        finally:
            self.close()
        self.lost_children = int(answer.get("lost_children", 0))
        return run_of_answer(answer.get("run", {}))

    def close(self) -> None:
        """Let go of the job."""
        self._stream.close()

    def _ask(self, fields: dict[str, Any]) -> dict[str, Any]:
        line = b""
        try:
            self._stream.sendall(encode(fields))
            while not line.endswith(b"\n") and len(line) < MAX_ANSWER_BYTES:
                part = self._stream.recv(65536)
                if not part:
                    break
                line += part
        except BrokenPipeError:
            line = self._left()
        except OSError as error:
            problem = f"the run that measures for us does not answer: {error.strerror or error}"
            raise ReadError(problem, "see its log") from error
        return answered(line)

    def _left(self) -> bytes:
        """Return what the other side has sent before it closed: the reason."""
        try:
            return self._stream.recv(65536)
        except OSError:
            return b""


def require_socket(path: str, refusal: SetupError) -> str:
    """Return the socket, by default the usual one, where somebody listens.

    Raises SetupError with the *refusal* to measure here, which is why a socket is needed.
    """
    path = path or DEFAULT_SOCKET
    try:
        connect_unix(path, TIMEOUT_S).close()
    except OSError as error:
        problem = f"no run measures for others at {path} ({error.strerror}), and {refusal.problem}"
        remedy = f"{refusal.remedy}; or have `kepler-ebpf run --jobs-socket {path}` started"
        raise SetupError(problem, remedy) from refusal
    return path
