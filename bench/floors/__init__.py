"""The floors: the least that anything with the server's job could cost, each a program of its own."""
