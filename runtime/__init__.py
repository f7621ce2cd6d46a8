"""What all processes share: settings, logs, telemetry, gRPC servers and channels, batching, lifecycle.

Nothing here knows what a timer is.
"""

import os

# gRPC's C core writes plain text to standard error, where every line is to be JSON. What matters of it comes as a status.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
