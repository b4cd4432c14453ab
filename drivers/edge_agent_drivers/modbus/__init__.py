"""Modbus: register maps, block reads, quarantine of refused registers; pymodbus is known only to `client`."""
