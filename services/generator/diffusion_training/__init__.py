"""Training of diffusion models: what the recipes `text_to_image` and `dreambooth` share.

`settings` what can be set · `captions` what is said of each image · `pictures` the
images of a training on disk · `draws` every random choice · `loss` · `schedule` ·
`modules` which weights move, and how they are saved · `checkpoint` · `processes`
one process per device · `fit` the loop.
"""
