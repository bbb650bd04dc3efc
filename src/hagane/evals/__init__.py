"""Measuring: question sets, metrics, bootstrap intervals. Systems come in as callables."""
