"""Patients that do not exist, with their truth."""
