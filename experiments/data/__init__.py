"""Readers of images, tables, texts and pairs; built-in data; notes and output files."""
