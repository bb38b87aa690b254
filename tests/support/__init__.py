"""What several test files use: devices, hostile files, records, small networks."""
