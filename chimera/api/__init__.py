"""What a user's handlers import: decorator, context, and the signals that steer outcomes."""
