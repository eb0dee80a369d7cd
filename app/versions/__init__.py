"""Index versions: built beside the served one, brought up to date, verified, cleared away."""
