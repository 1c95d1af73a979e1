"""Chaos: a fleet of servers that are killed, stopped, drained and cut off while people talk to it,
and checks of what its promises are worth then.

    python -m tests.chaos --seconds 60 --seed 1

`fleet` has the processes, `monkey` breaks them, `talkers` send, cancel and regenerate, `watchers`
look on, `checks` judges by the database and by the provider's own log, `run` puts it together.
"""
