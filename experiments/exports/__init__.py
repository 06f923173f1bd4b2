"""The formats of ``univae export``, one module each, and their registry."""
