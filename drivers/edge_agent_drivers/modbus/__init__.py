"""Modbus: register maps, block reads, quarantine of refused registers, and a client of our own that reads."""
