"""Lossless compression by bits-back coding: entropy coder, codecs, container."""
