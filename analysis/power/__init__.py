"""Design: simulating whole experiments, their power, and what more sessions, units or models would buy."""
