"""The formats of deployment, and the check that they predict what was evaluated."""
