"""Commands, the training loop, reports, benchmarks and studies."""

from experiments.training.process_environment import is_module_of, set_waiting_policy
from experiments.training.stopping import exit_on_signals

if is_module_of("experiments"):  # a command, whose module imports PyTorch next
    exit_on_signals()
    set_waiting_policy()
