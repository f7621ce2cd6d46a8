"""What the services' stores are made of: a SQLite database with group commit, a MongoDB database, compare-and-set."""
