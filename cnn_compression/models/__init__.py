"""One file a family of networks, `ComRec`, the pair that a codec around JPEG is made of, and
`latent`, what families with bytes of their own have in common."""
