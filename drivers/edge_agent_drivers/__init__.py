"""The drivers bay: Modbus and OPC UA. Each driver's `settings` module loads no protocol library."""
