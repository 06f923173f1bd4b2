"""Commands, the training loop, reports, benchmarks and studies."""
