"""Reads one file that a stranger made, in a process of its own that can do no harm: it has no keys,
little memory, little time, and may not write files. `extraction` starts it.

    python -m colloquy_server.files.extractors TASK CONTENT_TYPE < the file > the result

One module for each kind of file. None imports the rest of the server, so that the process starts
fast; libraries are imported by what needs them.
"""
