"""Which functions use the energy: stacks, sampled by a timer and scaled to the account."""
