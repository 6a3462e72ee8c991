"""The ground floor: time, money and errors. Imports nothing of ours."""
