"""What the fleet promises, tried: real traffic on the embedded stack while processes and connections fail at random.

    just chaos --runs 1000 --seconds 600 --workers 4 --seed 1

At the end every run that was ever accepted is asked for: it has ended, its client saw exactly what is stored, byte for
byte, nothing twice, nothing missing, nothing of anybody else's. What does not hold is printed, and the exit code is 1.
"""
