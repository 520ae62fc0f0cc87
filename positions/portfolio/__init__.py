"""What accounts hold and are worth, what they earned, and what came in from outside: figures, API and pages."""
