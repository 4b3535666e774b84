"""The command `actorstream`: publish, consume, administer and measure from a shell. Needs the extra `cli`.

It stands on the handles as any application does, and nothing stands on it.
"""
