"""What soak, validation and deployment share: verdicts, secrets, report settings, the audit runner, trends."""
