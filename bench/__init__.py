"""What the server costs beside floors, the least that anything with the same job could cost.
`python -m bench --help`; read `__main__.py` first."""

import os

# Its processes are started from one that uses gRPC, and none of them goes on with a copy of that.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
