"""What tools and commands return, and how it is made small for agents."""
