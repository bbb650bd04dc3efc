"""Making a model: what is wanted, what it costs, the data, the run, the gates, the card."""
