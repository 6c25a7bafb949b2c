"""Runs the program with a thread that makes faults inside its process, by what a FIFO says.

``inside.py FIFO PYTHON -m kepler_ebpf ARGUMENT...``. Each line is a fault: ``clock SECONDS`` puts
the wall clock so far ahead, as the program reads it; ``raise THREAD`` raises MemoryError in each
thread whose name begins so.
"""

import ctypes
import runpy
import sys
import threading
import time
from pathlib import Path

_real_time = time.time
_ahead_s = 0.0


def main() -> None:
    """Start the thread, and run the program in this one."""
    fifo, _, _, module, *arguments = sys.argv[1:]
    time.time = lambda: _real_time() + _ahead_s
    threading.Thread(target=_obey, args=(Path(fifo),), name="inside", daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _obey(fifo: Path) -> None:
    while True:
        for line in fifo.read_text().splitlines():
            command, _, argument = line.partition(" ")
            if command == "clock":
                globals()["_ahead_s"] = float(argument)
            else:
                _raise_in(argument)


def _raise_in(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name.startswith(name) and thread.ident:
            kind = ctypes.py_object(MemoryError)
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), kind)


if __name__ == "__main__":
    main()
