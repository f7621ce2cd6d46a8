"""Who owns and who may see a timer, and the outbox of the changes of that."""
