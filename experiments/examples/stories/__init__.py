"""Five stories of new users: from their files to their answers, by commands as one guesses them."""
