"""Forecasts in real time: a folder that is written into, and a forecast for every frame that arrives."""
