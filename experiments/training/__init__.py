"""One training loop: steps, settings, optimizers, budgets, processes, run folders."""
