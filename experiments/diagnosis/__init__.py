"""What ``univae doctor`` finds out about this machine and this installation."""
