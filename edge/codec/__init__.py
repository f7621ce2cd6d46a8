"""The JSON dialects of the socket: `contract.py` says what a dialect does, one file for each."""
