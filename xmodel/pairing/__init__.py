"""Which feature of one model fires where which feature of the other does: correlation, matching, filters."""
