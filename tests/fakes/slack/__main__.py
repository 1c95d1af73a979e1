"""The double as a process, to talk to a bot by hand: see `play`."""

from tests.fakes.slack.play import main

main()
