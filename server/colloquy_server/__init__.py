"""The Colloquy server. Read `app.py` first: it builds and wires everything."""

import os

# gRPC's handlers of fork(), which are read when it is first imported, crash about one in ten of the
# processes that uvloop starts. Nothing here forks without running another program right after.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"
