"""Commands as functions of Python, with data in memory."""
