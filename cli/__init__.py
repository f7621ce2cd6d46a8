"""`bubble`: a person's tool."""
