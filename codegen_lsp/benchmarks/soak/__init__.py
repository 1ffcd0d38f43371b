"""A soak test of the real server and worker: random edits, requests, malformed messages, and failures of all kinds.

`schedule` draws the sequence of actions from a seed, `perform` performs them, and `connection` counts what is sent and
answered. `documents` are texts that change at random, `malformed` has the invalid messages, `faults` the failing disk
and the clients that vanish, and `levels` the memory, and what a run leaves behind. `run` puts them together.
"""
