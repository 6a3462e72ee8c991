"""AWS: one EC2 instance with a T4. Read `provider.py` first."""
