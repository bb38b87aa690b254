"""`edgeship run`: train, quantize, export and validate, each stage run again only where its inputs changed."""
