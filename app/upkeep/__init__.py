"""What is done with whole indexes, as a job or by a command: switched, repaired, built to order."""
