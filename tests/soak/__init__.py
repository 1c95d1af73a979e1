"""Soak: people come and go at a server for long, and what it takes must not grow with what it did.

    python -m tests.soak --seconds 600 --seed 1

Talkers, watchers and checks are those of `tests.chaos`. `people` have them come and go, `served` is
the server, which also tells what it holds, `measures` notes it and judges whether it is flat, `run`
puts it together. `crowds` and `faults` are trials of one thing each
(`--try slow-readers`).
"""
