"""What all commands share: arguments, connecting, one message for one fault, and the exit code."""
