"""Measures kepler-ebpf against its bars; one module for each figure or pair of figures."""
