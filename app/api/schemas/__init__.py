"""The shapes of requests and responses, and how they are made of rows and values: a module for each noun."""
