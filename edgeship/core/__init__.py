"""Plain records, the configuration, errors, files, progress: what every room builds on. Imports nothing of ours."""
