"""GANs: task, presets, samples, runs, feature spaces, evaluation."""
