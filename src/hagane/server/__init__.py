"""The server's door: FastAPI routes over the project's verbs. Async here only; everything below is synchronous."""
