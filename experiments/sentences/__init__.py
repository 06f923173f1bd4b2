"""Sentence models: tasks, presets, samples, runs, teachers, vectors."""
