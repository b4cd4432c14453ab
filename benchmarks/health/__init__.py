"""How well the health model does on recorded and simulated machines, beside what others published."""
