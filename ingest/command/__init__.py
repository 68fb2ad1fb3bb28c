"""What all commands share: exit codes, types of options, and text that is safe for a terminal."""
