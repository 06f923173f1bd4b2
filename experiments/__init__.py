"""Commands, the training loop, reports, benchmarks and studies."""

from experiments.process_environment import is_module_of, set_waiting_policy

if is_module_of("experiments"):  # a command, whose module imports PyTorch next
    set_waiting_policy()
