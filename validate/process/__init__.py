"""Child processes of this machine: one per artifact and runtime, so that a crash costs a row and not the run."""
