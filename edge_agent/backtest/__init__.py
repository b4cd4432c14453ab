"""What the health model and the alarms would have done on recorded data; also reads the recorded tables."""
