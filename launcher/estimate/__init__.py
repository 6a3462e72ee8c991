"""What a training will cost before any money is spent: hours, dollars, energy, memory and storage. Pure.

docs/estimate.md describes the arithmetic, its assumptions and the JSON document.
"""
