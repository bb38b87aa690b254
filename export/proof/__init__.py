"""What export shows of each file before it writes it: the account of every number, and runs in child processes."""
