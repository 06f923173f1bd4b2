"""Text VAEs: task, presets, samples, runs, compression."""
