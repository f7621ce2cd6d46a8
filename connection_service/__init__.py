"""Presence (user, devices, connections), edge leases, and the routing of events to edges."""
