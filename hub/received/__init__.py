"""Spans that other programs send by OTLP, and the calls that they tell of."""
