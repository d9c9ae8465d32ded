"""Small generators of sequences whose structure is known.

Those of token ids return ``(inputs, targets)``, both ``(B, T)``: a target is what a model should say at that place, -100 where
nothing is asked.
"""

from minitf.data.synthetic.corpora import domain_mixture, facts, reversal_translation, zipf_tokens
from minitf.data.synthetic.programs import (
    arithmetic_expression,
    dyck,
    graph_connectivity,
    longest_increasing_subsequence,
    variable_assignment,
)
from minitf.data.synthetic.recall import associative_recall, copy_with_noise, induction, mqar, reverse_segment

__all__ = [
    "arithmetic_expression",
    "associative_recall",
    "copy_with_noise",
    "domain_mixture",
    "dyck",
    "facts",
    "graph_connectivity",
    "induction",
    "longest_increasing_subsequence",
    "mqar",
    "reversal_translation",
    "reverse_segment",
    "variable_assignment",
    "zipf_tokens",
]
