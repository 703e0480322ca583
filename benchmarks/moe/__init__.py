"""What routed experts cost, and how their load spreads."""
