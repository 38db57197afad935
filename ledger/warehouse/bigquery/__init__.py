"""The BigQuery warehouse, over Google's client libraries.

Importing it lets gRPC, on which Google's libraries rely, be used in forked children: gRPC reads the variable below when
it is imported. Without it, a child whose parent was in a call at the fork may be aborted by gRPC with SIGABRT.

Source: https://github.com/grpc/grpc/blob/master/doc/fork_support.md
"""

import os

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")
