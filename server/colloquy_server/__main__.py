"""`python -m colloquy_server`: the commands of the server."""

from colloquy_server.commands import main

if __name__ == "__main__":
    main()
