"""Golden questions, and what is learned with them: tuning, training, diagnosis."""
