"""Collectives for the arrays of users' programs, as the Keras drop-in offers them."""
