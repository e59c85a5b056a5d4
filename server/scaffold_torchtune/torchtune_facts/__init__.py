"""What is known of torchtune 0.6.1: generated facts, and the registry of models."""
