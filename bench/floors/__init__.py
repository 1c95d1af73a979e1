"""The floors: the least that anything with the server's job could cost. Each is a program."""
