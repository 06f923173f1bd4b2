"""Image and table VAEs: task, presets, samples, runs, compression."""
