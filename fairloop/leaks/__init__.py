"""The firewall between sets: the same picture, or the same person, in training and in evaluation.

Three nets of growing width: equal bytes, pictures that look equal, and faces
that a recogniser takes for one person at a threshold of a stated FMR. It
compares whole sets; it finds nobody.
"""
