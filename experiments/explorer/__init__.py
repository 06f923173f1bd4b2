"""The parts of ``univae explore``: a module a kind of run, and the page that shows them."""
