"""`edgeship doctor`: which runtimes and targets work here, and what to install for the others."""
