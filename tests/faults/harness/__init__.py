"""Real processes of Footnote that are killed, and a model of what must be left of their work.

zygote · processes    commands that start in milliseconds and die when they are told to
points · sabotage     where a process can kill itself; protocols broken on purpose
model                 what was acknowledged, and what else is allowed
fleet · operations    a service and workers, and what is done to them
checks · storm        whether what is left is what the model says, round after round
"""
