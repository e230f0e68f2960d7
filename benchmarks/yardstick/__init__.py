"""What the yardstick itself takes, in seconds and memory."""
