"""`python -m clients`: talk to a Colloquy server from a terminal."""

from clients.terminal.app import main

main()
