"""What holds for all unit tests."""

from hypothesis import settings

# Machines that run tests are shared: how long one example takes says nothing about the code.
settings.register_profile("bubble", deadline=None, max_examples=100)
settings.load_profile("bubble")
