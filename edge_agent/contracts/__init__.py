"""What one may plug in (`plugs`), and the YAML every plug shares (`settings`)."""
