"""Recipes from data to a row of a score table: what is missing, and doing it."""
