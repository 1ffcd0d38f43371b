"""A fuzzer of refactorings: programs are generated, refactored at many places, and run before and after.

`grammar` writes programs, `places` lists the selections of a kind, `attempt` performs a refactoring there, `executor`
runs both versions inside the sandbox and observes them, and `campaign` repeats this under hypothesis, which shrinks a
program whose behaviour changed. `python -m tests.refactor.fuzz --programs N` makes a long run.
"""
