"""What is validated: the bundle, its inputs as each artifact takes them, and one row per artifact and runtime."""
