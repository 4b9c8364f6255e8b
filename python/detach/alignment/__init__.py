"""How well frames of the same action meet: measures of sequence alignment, for any encoder.

The setting of MASA (Kwon et al., arXiv 2503.12519) and CASA (Kwon et al., CVPR 2022), on simulated
actions whose phases are known.
"""
