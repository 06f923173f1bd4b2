"""Optimizer utilities, one a file."""
