"""`python -m kepler_ebpf` is the `kepler-ebpf` command."""

from kepler_ebpf.cli import main

if __name__ == "__main__":
    main(prog_name="kepler-ebpf")
