"""Runners for places where no Python is: a browser, and the runtime makers' own tools on a phone."""
