"""Where clients connect: sockets, sessions, JSON dialects, limits, mailboxes, and the web page."""
