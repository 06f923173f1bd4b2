"""Estimators of the log-likelihood, with proposals, diagnostics and measures of collapse."""
