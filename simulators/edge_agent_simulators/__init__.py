"""Machines that do not exist: physics, instruments, faults that grow, and the servers that publish them."""
