"""What runtime workers ask the control plane, with their own token and outside of the public document."""
