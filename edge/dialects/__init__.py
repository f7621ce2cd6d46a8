"""What a dialect does differently beside its texts (`edge/codec/`): which one a client speaks, and the app's manners."""
