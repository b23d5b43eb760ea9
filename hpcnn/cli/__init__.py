"""What commands share: arguments, connecting the ranks, error messages, exit codes."""
