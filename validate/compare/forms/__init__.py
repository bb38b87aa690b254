"""A comparison in the forms that people and CI systems read; each a pure function of the record."""
