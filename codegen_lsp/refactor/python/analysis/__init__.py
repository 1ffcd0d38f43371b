"""Facts about a Python program that refactorings rely on, derived from its syntax trees.

`facts` keeps them for one tree. `bindings` has scopes and every occurrence of a name. `flow_builder` makes the events
of a function and the ways between them, exceptions included; `flow_graph` derives which variables may have no value and
which values may still be read. `effects` says what an evaluation may do. On these rest `regions` (what statements take
from the code around them and give to it) and `postponing` (whether a value may be computed later). `escapes` and
`string_names` find uses of names that are not written as names. The package knows nothing of selections, drafts and the
model.
"""
