"""What all processes share: settings, logs, telemetry, gRPC servers and channels, batching, lifecycle.

Nothing here knows what a timer is.
"""
