"""The families of models of docs/families.md: networks, their images, and one row of the table."""
