"""What only tells: `observer` is told of each pass, logs it, counts it (`metrics`) and passes it on
(`notifications`, `notifiers`). None of them can fail a pass.
"""
