"""Timers: their state, versions, stop tombstones, and the outbox of their events."""
