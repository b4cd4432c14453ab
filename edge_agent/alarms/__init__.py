"""Conditions of machines: limits, discrete alarms, communication, health; their states and their store."""
