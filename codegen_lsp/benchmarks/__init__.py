"""Benchmarks: engine speed, peers, memory, cancellation, and the typing replay."""
