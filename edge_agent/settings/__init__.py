"""YAML -> checked models, with every problem named at its place."""
