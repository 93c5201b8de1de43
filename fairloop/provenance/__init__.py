"""Where things come from, what may be done with them, and whether they are what they say.

Lineage over manifests, terms over the whole ancestry, the catalogue of published
sets, the inspection of stored resources, and the marks inside generated images.
"""
