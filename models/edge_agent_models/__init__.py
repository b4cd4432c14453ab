"""Health models: what is normal for a machine, learned on the spot, and how far from it the machine is."""
