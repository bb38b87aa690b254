"""The front door: what `import edgeship` gives. Each module is one noun, made of calls into the rooms below."""
